"""Servers that are mistreated, each by one test."""
import contextlib
import os
import pathlib
import subprocess
import time

import pytest

from e2e.conftest import Server, api  # noqa: F401 (api is a fixture)
from faults.http2 import Connection, grpc_message

GENERATE = "/sluice.v1.GenerationService/Generate"
ENDLESS = 16_000_000  # tokens: more than any machine makes while a test looks on
OK, CANCELLED, UNKNOWN, INVALID_ARGUMENT = 0, 1, 2, 3
RESOURCE_EXHAUSTED, UNIMPLEMENTED, UNAVAILABLE = 8, 12, 14


def pytest_configure(config):
    config.addinivalue_line("markers", "heavy: longer; run with -m heavy (tests/faults/README.md)")


def pytest_collection_modifyitems(config, items):
    """What is heavy has its own command."""
    if "heavy" in config.getoption("markexpr"):
        return
    heavy = [item for item in items if item.get_closest_marker("heavy")]
    config.hook.pytest_deselected(items=heavy)
    items[:] = [item for item in items if item not in heavy]


def wait_until(condition, timeout=120):
    """Polls; what the condition gave last."""
    deadline = time.monotonic() + timeout
    while not (value := condition()) and time.monotonic() < deadline:
        time.sleep(0.02)
    return value


class FaultyServer(Server):
    """A server that tells how it is."""

    def __init__(self, binary, model, *flags, api, **popen):
        self._api = api
        # Asks for twenty log-probabilities a token, so that little text is many bytes.
        self.chatty = api.generation.OutputOptions(logprobs=True, top_logprobs=20)
        super().__init__(binary, model, *flags, **popen)

    def request(self, text="It was", max_tokens=8, **fields):
        """The bytes of a request whose answer is always the same."""
        request = self._api.generation.GenerateRequest(text=text, **fields)
        request.sampling.seed = 7
        request.stopping.max_tokens = max_tokens
        request.stopping.ignore_eos = True
        return grpc_message(request.SerializeToString())

    def begin(self, max_tokens=ENDLESS, settings=None, **fields):
        """A connection with a call on stream 1 that has given its first message."""
        connection = Connection(self.address, settings)
        connection.call(1, GENERATE, self.request(max_tokens=max_tokens, **fields))
        connection.wait_for(lambda: connection.answer(1).data)
        return connection

    def ask(self, **fields):
        """The answer to one request on a connection of its own."""
        with Connection(self.address) as connection:
            connection.call(1, GENERATE, self.request(**fields))
            return connection.wait(1)

    def tokens(self, answer):
        """The token ids of a finished answer."""
        assert answer.code == OK, answer
        ids, data = [], answer.data
        while data:
            length = int.from_bytes(data[1:5], "big")
            ids += self._api.generation.GenerateResponse.FromString(data[5:5 + length]).token_ids
            data = data[5 + length:]
        return ids

    def is_idle(self):
        now = self.metrics()
        return (now['sluice_state_slots{state="used"}'] == 0
                and now["sluice_requests_running"] == 0 and now["sluice_requests_waiting"] == 0)

    def open_files(self):
        return len(os.listdir(f"/proc/{self.process.pid}/fd"))

    def resident_mib(self):
        status = pathlib.Path(f"/proc/{self.process.pid}/status").read_text()
        return int(status.split("VmRSS:")[1].split()[0]) / 1024

    def cpu_seconds(self):
        fields = pathlib.Path(f"/proc/{self.process.pid}/stat").read_text().rsplit(")", 1)[1].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    @contextlib.contextmanager
    def survives(self, mib=48):
        """What happens inside costs no slot, no descriptor and no more memory than this for good,
        and the next request is answered as the one before. A sanitizer keeps what was freed, so
        under one memory is not looked at."""
        before = self.tokens(self.ask())
        assert wait_until(self.is_idle)
        files, resident = self.open_files(), self.resident_mib()
        yield
        assert self.process.poll() is None, "\n".join(self.lines)
        assert self.tokens(self.ask()) == before
        assert wait_until(self.is_idle), self.metrics()
        # Two more: the scrape, and what its thread pool keeps open.
        assert wait_until(lambda: self.open_files() <= files + 2), (files, self.open_files())
        if self.sanitized:
            return
        assert wait_until(lambda: self.resident_mib() - resident < mib, timeout=10), (
            f"{self.resident_mib() - resident:.0f} MiB more than before")


@pytest.fixture(scope="session")
def ending():
    """Servers that were told to end: each must do it as asked, while other tests go on."""
    servers = []
    yield servers
    codes = [server.process.wait(timeout=120) for server in servers]
    assert not any(codes), codes


@pytest.fixture
def start(request, api, ending):  # noqa: F811
    """Starts servers that end with the test."""
    build = pathlib.Path(request.config.getoption("--build"))
    binary = request.config.getoption("--server-binary") or build / "server" / "sluice-server"
    servers = []

    def start_one(*flags, model=request.config.getoption("--model-dir"), **popen):
        endless = f"--max-output-tokens={ENDLESS}"
        servers.append(FaultyServer(str(binary), str(model), endless, *flags, api=api, **popen))
        return servers[-1]

    def start_process(*flags, model=request.config.getoption("--model-dir"), **popen):
        """The bare process, with its standard error, for a start that fails."""
        options = {"stderr": subprocess.PIPE, "text": True, **popen}
        return subprocess.Popen([str(binary), f"--model={model}", *flags], **options)

    start_one.process = start_process
    yield start_one
    for server in servers:
        server.channel.close()
        if server.process.poll() is None:
            server.process.terminate()
            ending.append(server)
