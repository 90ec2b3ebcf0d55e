"""The command lines that the chart writes, held to the real server."""
import hashlib
import json
import pathlib
import re
import signal
import subprocess

import grpc
import pytest
import yaml
from certificate import write_certificate

ROOT = pathlib.Path(__file__).resolve().parents[2]
CHART = ROOT / "deploy" / "helm" / "sluice"
FILES = sorted(path.name for path in (CHART / "ci").iterdir())
# Flags that are no values: what the chart knows better, or has another value for.
OWN = {"model", "model-name", "listen", "metrics-listen", "device", "drain-limit", "tls-cert", "tls-key",
       "tls-client-ca", "api-keys", "admin-listen"}
KEY = "a-key-of-the-tests"


def flag(name):
    return re.sub("([A-Z])", lambda letter: "-" + letter[1].lower(), name)


@pytest.fixture(scope="module")
def binaries(request):
    build = pathlib.Path(request.config.getoption("--build"))
    return {"sluice-server": build / "server" / "sluice-server", "sluice": build / "client" / "sluice"}


@pytest.fixture(scope="module")
def defaults(binaries):
    """Every flag of the server with its default."""
    text = subprocess.run([binaries["sluice-server"], "--help"], capture_output=True, text=True, check=True).stdout
    flags = dict(re.findall(r"^  --([a-z-]+)(?: \((.*)\))?$", text, re.MULTILINE))
    return {name: default for name, default in flags.items() if name not in ("help", "version")}


@pytest.fixture(scope="module")
def server_schema():
    return json.loads((CHART / "values.schema.json").read_text())["properties"]["server"]["properties"]


@pytest.mark.parametrize("file", FILES)
def test_the_server_has_every_flag_that_the_chart_gives_it(render, defaults, file):
    assert {name.removeprefix("--") for name in render(file).flags} - set(defaults) == set()


def test_every_flag_of_the_server_is_a_value_or_the_charts_own(defaults, server_schema):
    assert {flag(name) for name in server_schema} | OWN == set(defaults)


def test_the_defaults_in_the_comments_are_the_servers(defaults, server_schema):
    text = (CHART / "values.yaml").read_text()
    commented = dict(re.findall(r"^  # (\w+): (\S+)(?:  .*)?$", text, re.MULTILINE))
    given = yaml.safe_load(text)["server"]
    assert set(commented) | set(given) == set(server_schema)
    assert {name: defaults[flag(name)] for name in commented} == commented


def exit_code(binaries, **flags):
    """1: the command line is fine, but there is no such model. 2: it is not."""
    arguments = [f"--{flag(name)}={value}" for name, value in flags.items()]
    return subprocess.run([binaries["sluice-server"], "--model=/nowhere", "--listen=127.0.0.1:0",
                           "--metrics-listen=", *arguments], capture_output=True).returncode


def test_whole_numbers_have_the_servers_ranges(binaries, server_schema):
    ranges = {name: schema for name, schema in server_schema.items() if schema.get("type") == "integer"}
    assert len(ranges) > 10
    for name, schema in ranges.items():
        assert exit_code(binaries, **{name: schema["minimum"]}) == 1, name
        assert exit_code(binaries, **{name: schema["maximum"]}) == 1, name
        assert exit_code(binaries, **{name: schema["minimum"] - 1}) == 2, name
        assert exit_code(binaries, **{name: schema["maximum"] + 1}) == 2, name


def test_words_and_durations_are_the_servers(binaries, server_schema):
    endless = "#/definitions/durationOrInf"
    for name, schema in server_schema.items():
        for word in schema.get("enum", []):
            assert exit_code(binaries, **{name: word}) == 1, (name, word)
        if "duration" in schema.get("$ref", ""):
            assert exit_code(binaries, **{name: "1m30s"}) == 1, name
        if schema.get("$ref") == endless:
            assert exit_code(binaries, **{name: "inf"}) == 1, name


class Pod:
    """The server as the rendered pod runs it, with folders of this machine for those of the pod."""

    def __init__(self, objects, folder, binaries, start_server):
        self._binaries = binaries
        self._start_server = start_server
        self._folder = folder
        self._probe = objects.container["readinessProbe"]["exec"]["command"]
        for mount in objects.container["volumeMounts"]:
            (folder / mount["mountPath"].strip("/")).mkdir(parents=True)
        elsewhere = ("--model", "--listen", "--metrics-listen")
        self._flags = [f"{name}={self.here(value)}" for name, value in objects.flags.items()
                       if name not in elsewhere and name != "--log-format"]

    def here(self, text):
        return re.sub("/(?:etc|run)/sluice/", lambda found: f"{self._folder}{found[0]}", text)

    def start(self):
        return self._start_server(*self._flags)

    def probe(self):
        command = [self.here(word) for word in self._probe]
        return subprocess.run([self._binaries[command[0]], *command[1:]], capture_output=True, text=True)


@pytest.fixture
def pod(render, tmp_path, binaries, start_server):
    made = Pod(render("tls-keys.yaml"), tmp_path, binaries, start_server)
    secrets = tmp_path / "etc" / "sluice"
    write_certificate(secrets / "tls")
    (secrets / "client-ca" / "ca.crt").write_bytes((secrets / "tls" / "tls.crt").read_bytes())
    keys = {"keys": [{"tenant": "acme", "sha256": hashlib.sha256(KEY.encode()).hexdigest()}]}
    (secrets / "api-keys" / "keys.json").write_text(json.dumps(keys))
    return made


def channel_to(server, tls):
    key, certificate = (tls / name for name in ("tls.key", "tls.crt"))
    credentials = grpc.ssl_channel_credentials(certificate.read_bytes(), key.read_bytes(), certificate.read_bytes())
    return grpc.secure_channel(server.address, credentials)


def test_with_tls_the_probe_tells_health_also_after_a_crash_and_in_the_drain(api, pod, tmp_path):
    assert pod.probe().returncode != 0
    crashed = pod.start()
    assert (pod.probe().stdout, pod.probe().returncode) == ("SERVING\n", 0)
    crashed.process.send_signal(signal.SIGKILL)
    crashed.process.wait()
    assert pod.probe().returncode != 0

    # What the crash left of the socket, as the pod's volume outlives a container, is in nobody's way.
    server = pod.start()
    assert (pod.probe().stdout, pod.probe().returncode) == ("SERVING\n", 0)
    with channel_to(server, tmp_path / "etc" / "sluice" / "tls") as channel:
        stub = api.generation_grpc.GenerationServiceStub(channel)
        request = api.generation.GenerateRequest(text="It was")
        request.stopping.max_tokens = 60000
        request.stopping.ignore_eos = True
        stream = stub.Generate(request, metadata=[("authorization", f"Bearer {KEY}")])
        next(stream)
        server.process.terminate()
        server.wait_for("draining")
        drained = pod.probe()
        stream.cancel()
    assert (drained.stdout, drained.returncode) == ("NOT_SERVING\n", 1)
    assert server.process.wait(timeout=120) == 0
