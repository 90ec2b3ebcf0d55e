"""Starts the real server, and generates the stubs that a Python user would."""
import importlib
import pathlib
import subprocess
import sys
import threading
import urllib.request

import grpc
import pytest

from sanitized import is_sanitized

ROOT = pathlib.Path(__file__).resolve().parents[2]


@pytest.fixture(scope="session")
def api(tmp_path_factory):
    """The generated modules: api.generation, api.model and their _grpc twins."""
    out = tmp_path_factory.mktemp("stubs")
    protos = sorted(str(path) for path in (ROOT / "proto").rglob("*.proto"))
    subprocess.run([sys.executable, "-m", "grpc_tools.protoc", f"-I{ROOT / 'proto'}",
                    f"--python_out={out}", f"--grpc_python_out={out}", *protos], check=True)
    sys.path.insert(0, str(out))

    class Api:
        generation = importlib.import_module("sluice.v1.generation_pb2")
        generation_grpc = importlib.import_module("sluice.v1.generation_pb2_grpc")
        model = importlib.import_module("sluice.v1.model_pb2")
        model_grpc = importlib.import_module("sluice.v1.model_pb2_grpc")

    return Api


class Server:
    """A server process on ports of its own; its standard error is read as it comes.

    `popen`: further arguments of subprocess.Popen.
    """

    def __init__(self, binary, model, *flags, **popen):
        self.process = subprocess.Popen(
            [binary, f"--model={model}", "--listen=127.0.0.1:0", "--metrics-listen=127.0.0.1:0",
             *flags], stderr=subprocess.PIPE, text=True, **popen)
        self.sanitized = is_sanitized(binary)
        self.lines = []
        self._changed = threading.Condition()
        self._ended = False
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()
        self.address = self.value("listening", "address")
        self.metrics_url = self.value("metrics", "url")
        self.wait_for("serving")
        self.channel = grpc.insecure_channel(self.address)

    def _read(self):
        for line in self.process.stderr:
            with self._changed:
                self.lines.append(line.rstrip("\n"))
                self._changed.notify_all()
        with self._changed:
            self._ended = True
            self._changed.notify_all()

    def wait_for(self, event, timeout=120):
        """The first line of this event."""
        def found():
            return next((line for line in self.lines if line.split(" ")[2:3] == [event]), None)

        with self._changed:
            self._changed.wait_for(lambda: found() or self._ended, timeout)
            line = found()
        assert line, f"no '{event}' in the server's log:\n" + "\n".join(self.lines)
        return line

    def value(self, event, key):
        return self.wait_for(event).split(f" {key}=")[1].split(" ")[0]

    def metrics(self):
        """Every sample of the metrics page by its name with labels."""
        with urllib.request.urlopen(self.metrics_url, timeout=30) as page:
            lines = page.read().decode().splitlines()
        samples = (line.rsplit(" ", 1) for line in lines if line and not line.startswith("#"))
        return {name: float(value) for name, value in samples}

    def stop(self):
        """SIGTERM; the exit code."""
        self.process.terminate()
        code = self.process.wait(timeout=120)
        self._reader.join()
        return code


@pytest.fixture(scope="session")
def start_server(request):
    """Starts servers, and kills those that are left."""
    build = pathlib.Path(request.config.getoption("--build"))
    binary = request.config.getoption("--server-binary") or build / "server" / "sluice-server"
    model = request.config.getoption("--model-dir")
    servers = []

    def start(*flags):
        servers.append(Server(str(binary), model, *flags))
        return servers[-1]

    yield start
    for server in servers:
        server.process.kill()
        server.process.wait()


@pytest.fixture(scope="session")
def server(start_server):
    """The server that most tests share; it ends as asked once they are through."""
    shared = start_server("--slots=16")
    yield shared
    shared.channel.close()
    assert shared.stop() == 0


@pytest.fixture
def generation(api, server):
    return api.generation_grpc.GenerationServiceStub(server.channel)


@pytest.fixture
def model(api, server):
    return api.model_grpc.ModelServiceStub(server.channel)
