"""The server ends while it is busy, on purpose or not, and another takes its place."""
import signal
import threading

import grpc
import pytest
from hyperframe.frame import GoAwayFrame

from faults.conftest import ENDLESS, GENERATE, OK, UNAVAILABLE, wait_until
from faults.http2 import Connection

STREAMS = 24


class Client(threading.Thread):
    """A stream as a Python user has it, read to its end."""

    def __init__(self, server, api, max_tokens):
        super().__init__()
        self.channel = grpc.insecure_channel(
            server.address, [("grpc.use_local_subchannel_pool", 1), ("grpc.enable_retries", 0)])
        request = api.generation.GenerateRequest(text="Call me Ishmael.")
        request.stopping.max_tokens = max_tokens
        request.stopping.ignore_eos = True
        self.stream = api.generation_grpc.GenerationServiceStub(self.channel).Generate(request)
        self.tokens, self.last, self.error = 0, None, None
        self.begun = threading.Event()

    def run(self):
        try:
            for self.last in self.stream:
                self.tokens += len(self.last.token_ids)
                self.begun.set()
        except grpc.RpcError as error:
            self.error = error
        self.channel.close()


def load(server, api, max_tokens, running):
    """STREAMS clients; returns once `running` of them have their first tokens."""
    clients = [Client(server, api, max_tokens) for _ in range(STREAMS)]
    for client in clients:
        client.start()
    assert wait_until(lambda: sum(client.begun.is_set() for client in clients) >= running)
    assert wait_until(lambda: server.metrics()["sluice_requests_waiting"] == STREAMS - running)
    return clients


def join(clients):
    for client in clients:
        client.join(timeout=60)
        assert not client.is_alive()


def test_sigterm_finishes_what_runs_and_what_waits(start, api):
    server = start("--slots=16", "--drain-limit=100s")
    clients = load(server, api, 300, running=16)
    server.process.send_signal(signal.SIGTERM)
    join(clients)
    for client in clients:
        assert client.error is None, client.error
        assert client.tokens == 300
        assert client.last.finished.reason == api.generation.FINISH_REASON_LENGTH
    assert server.process.wait(timeout=60) == 0


def test_sigterm_cuts_at_the_drain_limit_and_keeps_what_was_generated(start, api):
    server = start("--slots=16", "--drain-limit=1s")
    clients = load(server, api, ENDLESS, running=16)
    server.process.send_signal(signal.SIGTERM)
    server.wait_for("draining")
    join(clients)
    for client in clients:
        assert client.error is None, client.error
        assert client.last.finished.reason == api.generation.FINISH_REASON_CANCELLED
        assert client.last.finished.usage.output_tokens == client.tokens
    assert sum(client.tokens > 0 for client in clients) >= 16
    assert server.process.wait(timeout=60) == 0
    assert " requests=cut streams=read" in server.wait_for("drained")


def test_while_it_drains_new_calls_are_unavailable(start, api):
    server = start("--slots=16", "--drain-limit=100s")
    with Connection(server.address) as early:
        running = server.begin(max_tokens=800)
        server.process.send_signal(signal.SIGTERM)
        server.wait_for("draining")
        early.call(1, GENERATE, server.request())
        answer = early.wait(1)
        assert answer.code == UNAVAILABLE and "draining" in answer.message
        assert running.wait(1).code == OK
        assert server.process.wait(timeout=60) == 0
        early.wait_for(lambda: early.closed)
        assert isinstance(early.goaway, GoAwayFrame), "closed without a word"


@pytest.mark.parametrize("end", [signal.SIGTERM, signal.SIGKILL])
def test_the_next_server_takes_the_same_port_at_once(start, api, end):
    first = start("--slots=16", "--drain-limit=0s")
    expected = first.tokens(first.ask())
    clients = load(first, api, ENDLESS, running=16)
    first.process.send_signal(end)
    assert first.process.wait(timeout=60) == (0 if end == signal.SIGTERM else -signal.SIGKILL)
    second = start(f"--listen={first.address}",
                   f"--metrics-listen={first.metrics_url.split('/')[2]}")
    assert second.address == first.address
    assert second.tokens(second.ask()) == expected
    join(clients)
    for client in clients:
        if end == signal.SIGTERM:
            assert client.error is None
        else:
            assert client.error.code() == grpc.StatusCode.UNAVAILABLE
    # A client that tries again is served by the new process.
    again = Client(second, api, 5)
    again.start()
    join([again])
    assert again.error is None and again.tokens == 5


def test_a_socket_file_left_by_a_killed_server_is_replaced(start, tmp_path):
    address = f"unix:{tmp_path}/sluice.sock"
    first = start(f"--listen={address}")
    expected = first.tokens(first.ask())
    stream = first.begin()
    first.process.send_signal(signal.SIGKILL)
    first.process.wait()
    stream.wait_for(lambda: stream.closed)
    assert (tmp_path / "sluice.sock").is_socket()
    second = start(f"--listen={address}")
    assert second.tokens(second.ask()) == expected
    assert second.stop() == 0
    assert not (tmp_path / "sluice.sock").exists()


def test_a_socket_file_that_is_served_is_left_alone(start, tmp_path):
    address = f"unix:{tmp_path}/sluice.sock"
    first = start(f"--listen={address}")
    with pytest.raises(AssertionError, match=f"--listen={address}: cannot listen there"):
        start(f"--listen={address}")
    assert first.ask().code == OK


def test_sigterm_while_it_loads(start):
    """Nothing runs yet, so nothing is waited for."""
    server = start.process("--listen=127.0.0.1:0", "--metrics-listen=127.0.0.1:0")
    for line in server.stderr:
        if " listening " in line:
            break
    server.send_signal(signal.SIGTERM)
    assert server.wait(timeout=60) in (0, 1)
