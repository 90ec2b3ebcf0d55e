"""API keys as an operator lives with them: made, put into a file, exchanged while the server runs."""
import json
import os
import pathlib
import subprocess
import threading
import time

import grpc
import pytest

TRACE = "0af7651916cd43dd8448eb211c80319c"
PARENT = "b7ad6b7169203331"


@pytest.fixture(scope="session")
def sluice(request):
    """Runs the client; what it printed, after it ended well."""
    binary = pathlib.Path(request.config.getoption("--build")) / "client" / "sluice"

    def run(*arguments, code=0):
        done = subprocess.run([binary, *arguments], capture_output=True, text=True, timeout=120, check=False)
        assert done.returncode == code, done.stderr
        return done.stdout if code == 0 else done.stderr

    return run


@pytest.fixture(scope="session")
def new_key(sluice):
    """Makes a key: itself, and its entry in the file."""
    def make(tenant, **fields):
        key, entry = sluice("key", "--tenant", tenant).splitlines()
        return key, {**json.loads(entry), **fields}

    return make


def replace(path, text):
    """In one step, as editors and configuration tools do."""
    following = path.with_name("following")
    following.write_text(text)
    os.replace(following, path)


def key_file(*entries):
    return json.dumps({"keys": entries})


def bearer(key, **more):
    return [("authorization", f"Bearer {key}"),
            *((name.replace("_", "-"), value) for name, value in more.items())]


def code_of(call):
    """The status code that a call ends with."""
    try:
        call()
    except grpc.RpcError as error:
        return error.code()
    return grpc.StatusCode.OK


def wait_until(condition):
    for _ in range(3000):
        if condition():
            return
        time.sleep(0.02)
    assert condition()


def line_with(server, event, part):
    """The line of an event that holds `part`, waited for."""
    def found():
        return [line for line in server.lines if f" {event} " in line and part in line]

    wait_until(found)
    return found()[0]


class Keyed:
    """A server that asks for keys, and calls of it."""

    def __init__(self, api, start_server, path, *flags):
        self.path = path
        self.server = start_server(f"--api-keys={path}", "--reload-interval=100ms", *flags)
        self.model = api.model_grpc.ModelServiceStub(self.server.channel)
        self.generation = api.generation_grpc.GenerationServiceStub(self.server.channel)
        self.request = api.generation.GenerateRequest(text="It was")
        self.request.stopping.max_tokens = 3
        self.request.stopping.ignore_eos = True
        self.api = api

    def describe(self, key):
        return code_of(lambda: self.model.GetModel(self.api.model.GetModelRequest(), metadata=bearer(key)))

    def stream(self, key, max_tokens=3, **metadata):
        request = self.api.generation.GenerateRequest()
        request.CopyFrom(self.request)
        request.stopping.max_tokens = max_tokens
        return self.generation.Generate(request, metadata=bearer(key, **metadata))

    def reloads(self, result):
        return self.server.metrics()[f'sluice_file_reloads_total{{file="api_keys",result="{result}"}}']


@pytest.fixture
def keyed(api, start_server, tmp_path):
    def start(text, *flags):
        path = tmp_path / "keys.json"
        replace(path, text)
        return Keyed(api, start_server, path, *flags)

    return start


def test_the_client_makes_a_key_and_shows_it(sluice, new_key, keyed, tmp_path):
    key, entry = new_key("acme", name="ci")
    assert key.startswith("sl_") and len(key) == 46
    assert key not in json.dumps(entry)
    served = keyed(key_file(entry))
    own = tmp_path / "key"
    own.write_text(key + "\n")
    where = ["--server", served.server.address]
    assert sluice("generate", *where, "--api-key-file", str(own), "--max-tokens", "3", "It was")
    assert "demo" in sluice("model", *where, "--api-key-file", str(own))
    assert sluice("tokenize", *where, "--api-key-file", str(own), "It was").strip() != ""
    assert sluice("score", *where, "--api-key-file", str(own), "It was a night")
    assert "UNAUTHENTICATED: no valid API key" in sluice("generate", *where, "It was", code=1)
    assert "SERVING" in sluice("health", *where)
    line = line_with(served.server, "request", "kind=generate")
    assert " tenant=acme key=ci " in line
    metrics = served.server.metrics()
    assert metrics['sluice_tenant_requests_total{outcome="length",tenant="acme"}'] == 1
    assert metrics['sluice_tenant_output_tokens_total{tenant="acme"}'] == 3
    assert metrics['sluice_requests_refused_total{reason="key"}'] == 1
    assert metrics["sluice_api_keys"] == 1
    assert not [line for line in served.server.lines if key in line or entry["sha256"] in line]


def test_keys_are_exchanged_under_load(new_key, keyed):
    always, always_entry = new_key("acme")
    old, old_entry = new_key("acme")
    new, new_entry = new_key("zen")
    served = keyed(key_file(always_entry, old_entry))
    stop = threading.Event()
    codes = []

    def call():
        while not stop.is_set():
            codes.append(code_of(lambda: list(served.stream(always, max_tokens=20))))

    callers = [threading.Thread(target=call) for _ in range(4)]
    for caller in callers:
        caller.start()
    stream = served.stream(old, max_tokens=600)
    tokens = len(next(stream).token_ids)
    assert served.describe(old) == grpc.StatusCode.OK
    assert served.describe(new) == grpc.StatusCode.UNAUTHENTICATED
    replace(served.path, key_file(always_entry, new_entry))
    wait_until(lambda: served.describe(old) == grpc.StatusCode.UNAUTHENTICATED)
    assert served.describe(new) == grpc.StatusCode.OK
    for message in stream:
        tokens += len(message.token_ids)
    assert tokens == 600, "what was let in is finished"
    stop.set()
    for caller in callers:
        caller.join()
    assert set(codes) == {grpc.StatusCode.OK}
    wait_until(lambda: served.reloads("ok") == 1)
    assert " keys=2" in line_with(served.server, "reloaded", "file=api_keys")


def test_a_secrets_mount_is_followed(api, start_server, new_key, tmp_path):
    """Kubernetes has keys.json -> ..data/keys.json, and exchanges where ..data leads."""
    old, old_entry = new_key("acme")
    new, new_entry = new_key("acme")
    for day, entry in (("..1", old_entry), ("..2", new_entry)):
        (tmp_path / day).mkdir()
        (tmp_path / day / "keys.json").write_text(key_file(entry))
    (tmp_path / "..data").symlink_to("..1")
    (tmp_path / "keys.json").symlink_to("..data/keys.json")
    served = Keyed(api, start_server, tmp_path / "keys.json")
    assert served.describe(old) == grpc.StatusCode.OK
    (tmp_path / "..data_tmp").symlink_to("..2")
    os.replace(tmp_path / "..data_tmp", tmp_path / "..data")
    wait_until(lambda: served.describe(new) == grpc.StatusCode.OK)
    assert served.describe(old) == grpc.StatusCode.UNAUTHENTICATED


def test_a_broken_file_changes_nothing(new_key, keyed):
    key, entry = new_key("acme")
    served = keyed(key_file(entry))
    replace(served.path, '{"keys": [{"tenant": "acme"')
    line = line_with(served.server, "reload_failed", "file=api_keys")
    assert "keys.json is not valid JSON" in line and "error" in line
    assert served.describe(key) == grpc.StatusCode.OK
    assert (served.reloads("failed"), served.reloads("ok")) == (1, 0)
    replace(served.path, key_file())
    wait_until(lambda: served.describe(key) == grpc.StatusCode.UNAUTHENTICATED)
    wait_until(lambda: served.reloads("ok") == 1)
    wait_until(lambda: served.server.metrics()["sluice_api_keys"] == 0)


@pytest.mark.parametrize("text, message", [
    ("", "is not valid JSON"),
    ('{"keys":[{"tenant":"acme","sha256":"sl_secret"}]}', "keys[0].sha256 must be"),
    (None, "there is no file"),
])
def test_a_broken_file_at_start_ends_the_server(request, tmp_path, text, message):
    build = pathlib.Path(request.config.getoption("--build"))
    path = tmp_path / "keys.json"
    if text is not None:
        path.write_text(text)
    ended = subprocess.run(
        [build / "server" / "sluice-server", f"--model={request.config.getoption('--model-dir')}",
         "--listen=127.0.0.1:0", "--metrics-listen=", f"--api-keys={path}"],
        capture_output=True, text=True, timeout=120, check=False)
    assert ended.returncode == 1
    assert f"--api-keys: {path}" in ended.stderr or f"--api-keys: there is no file {path}" in ended.stderr
    assert message in ended.stderr
    assert "listening" not in ended.stderr and "sl_secret" not in ended.stderr


def test_a_key_is_held_to_what_it_may(new_key, keyed):
    reader, reader_entry = new_key("acme", methods=["GetModel"])
    small, small_entry = new_key("acme", max_prompt_tokens=4, max_output_tokens=5)
    single, single_entry = new_key("acme", max_requests=1)
    served = keyed(key_file(reader_entry, small_entry, single_entry), "--max-output-tokens=1000000")
    assert served.describe(reader) == grpc.StatusCode.OK
    assert code_of(lambda: list(served.stream(reader))) == grpc.StatusCode.PERMISSION_DENIED
    assert code_of(lambda: list(served.stream(small))) == grpc.StatusCode.OK
    with pytest.raises(grpc.RpcError) as error:
        list(served.stream(small, max_tokens=6))
    assert error.value.code() == grpc.StatusCode.INVALID_ARGUMENT
    assert "stopping.max_tokens of 6 tokens is over this client's limit of 5" in error.value.details()
    served.request.text = "It was the best of times, it was the worst of times."
    with pytest.raises(grpc.RpcError) as error:
        list(served.stream(small))
    assert "tokens is over this client's limit of 4" in error.value.details()
    stream = served.stream(single, max_tokens=1_000_000)
    next(stream)
    assert served.describe(single) == grpc.StatusCode.RESOURCE_EXHAUSTED
    stream.cancel()
    wait_until(lambda: served.describe(single) == grpc.StatusCode.OK)

    def refused(reason):
        return served.server.metrics()[f'sluice_requests_refused_total{{reason="{reason}"}}']

    assert refused("method") == 1
    assert refused("limit") == 2
    assert refused("concurrency") >= 1
    assert " tenant=acme method=Generate reason=method code=PERMISSION_DENIED " in line_with(
        served.server, "refused", "reason=method")


def test_a_trace_and_a_name_are_carried_to_the_log(new_key, keyed):
    key, entry = new_key("acme")
    served = keyed(key_file(entry))
    call = served.stream(key, traceparent=f"00-{TRACE}-{PARENT}-01", x_request_id="proxy-7")
    assert ("x-request-id", "proxy-7") in call.initial_metadata()
    last = list(call)[-1]
    assert last.finished.request_id == "proxy-7"
    line = line_with(served.server, "request", "id=proxy-7")
    assert f" trace_id={TRACE} parent_span_id={PARENT} span_id=" in line
    call = served.stream(key, traceparent="00-nonsense")
    name = dict(call.initial_metadata())["x-request-id"]
    assert list(call)[-1].finished.request_id == name, "a trace that is invalid is no error"
    assert "trace_id" not in line_with(served.server, "request", f"id={name}")


def test_refusals_do_not_flood_the_log(keyed):
    served = keyed(key_file())
    begun = time.monotonic()
    for _ in range(300):
        assert served.describe("wrong") == grpc.StatusCode.UNAUTHENTICATED
    seconds = time.monotonic() - begun
    assert served.server.metrics()['sluice_requests_refused_total{reason="key"}'] == 300
    line_with(served.server, "refused", "reason=key code=UNAUTHENTICATED")
    lines = [line for line in served.server.lines if " refused " in line]
    assert len(lines) <= 5 * (seconds + 2)


def test_an_address_is_held_to_its_rate(api, start_server):
    served = start_server("--client-rate=0.01")
    model = api.model_grpc.ModelServiceStub(served.channel)
    model.GetModel(api.model.GetModelRequest())
    with pytest.raises(grpc.RpcError) as error:
        model.GetModel(api.model.GetModelRequest())
    assert error.value.code() == grpc.StatusCode.RESOURCE_EXHAUSTED
    assert 0 < int(dict(error.value.trailing_metadata())["grpc-retry-pushback-ms"]) <= 100_000
    assert not [name for name in served.metrics() if name.startswith("sluice_tenant_")]
