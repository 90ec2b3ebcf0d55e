"""What an operator does to a running server over its admin service."""
import importlib
import os
import signal
import stat
import time

import grpc
import pytest


@pytest.fixture(scope="module")
def admin(api):
    """The generated modules of the admin service."""
    class Admin:
        messages = importlib.import_module("sluice.v1.admin_pb2")
        services = importlib.import_module("sluice.v1.admin_pb2_grpc")

    return Admin


@pytest.fixture(scope="module")
def socket_path(tmp_path_factory):
    return str(tmp_path_factory.mktemp("admin") / "socket")


@pytest.fixture(scope="module")
def steered(start_server, socket_path):
    """A server that is told what to do over a socket file."""
    return start_server("--slots=1", "--max-output-tokens=10000000", f"--admin-listen=unix:{socket_path}")


@pytest.fixture(scope="module")
def operator(admin, steered, socket_path):
    assert steered.value("admin_listening", "address") == f"unix:{socket_path}"
    with grpc.insecure_channel(f"unix:{socket_path}") as channel:
        yield admin.services.AdminServiceStub(channel)


def endless(api, request_id):
    request = api.generation.GenerateRequest(text="Call me Ishmael.", request_id=request_id)
    request.stopping.max_tokens = 10_000_000
    request.stopping.ignore_eos = True
    return request


def test_only_the_owner_may_use_the_socket(operator, socket_path):
    assert stat.S_IMODE(os.stat(socket_path).st_mode) == 0o600


def test_status_says_what_the_server_is(admin, operator, steered):
    status = operator.GetStatus(admin.messages.GetStatusRequest())
    assert status.state == admin.messages.SERVING_STATE_SERVING
    assert status.slots_total == 1
    assert status.flags["--slots"] == "1"
    assert status.flags["--max-connections"] == "10000"
    assert 0 < status.uptime_seconds < 3600
    assert f" version={status.server_version} commit={status.server_commit}" in steered.wait_for("start")


def test_clients_do_not_reach_it(admin, steered):
    with pytest.raises(grpc.RpcError) as error:
        admin.services.AdminServiceStub(steered.channel).Drain(admin.messages.DrainRequest())
    assert error.value.code() == grpc.StatusCode.UNIMPLEMENTED


def test_an_operator_ends_a_request(api, admin, operator, steered):
    stub = api.generation_grpc.GenerationServiceStub(steered.channel)
    running = stub.Generate(endless(api, "runs-for-ever"))
    next(running)
    waiting = stub.Generate(endless(api, "waits"))
    listed = []
    while len(listed) < 2:
        listed = operator.ListRequests(admin.messages.ListRequestsRequest()).requests
    assert [(live.request_id, live.running) for live in listed] == [("runs-for-ever", True), ("waits", False)]
    assert listed[0].output_tokens >= 1 and listed[0].prompt_tokens == listed[1].prompt_tokens > 0
    assert listed[0].peer.startswith("ipv4:127.0.0.1:")
    assert listed[0].kind == admin.messages.REQUEST_KIND_GENERATE
    status = operator.GetStatus(admin.messages.GetStatusRequest())
    assert (status.requests_running, status.requests_waiting) == (1, 1)
    assert status.waiting_tokens == listed[1].prompt_tokens
    assert status.connections >= 1
    assert steered.metrics()["sluice_waiting_tokens"] == listed[1].prompt_tokens

    for request_id, stream in (("runs-for-ever", running), ("waits", waiting)):
        cancelled = operator.CancelRequest(admin.messages.CancelRequestRequest(request_id=request_id))
        assert cancelled.cancelled == 1
        with pytest.raises(grpc.RpcError) as error:
            for _ in stream:
                pass
        assert error.value.code() == grpc.StatusCode.ABORTED
        assert "an operator" in error.value.details()
    assert "change=cancel_request" in steered.wait_for("admin")
    with pytest.raises(grpc.RpcError) as error:
        operator.CancelRequest(admin.messages.CancelRequestRequest(request_id="waits"))
    assert error.value.code() == grpc.StatusCode.NOT_FOUND


def test_the_log_level_changes(api, admin, operator, steered):
    stub = api.generation_grpc.GenerationServiceStub(steered.channel)

    def generate(request_id):
        request = endless(api, request_id)
        request.stopping.max_tokens = 1
        return list(stub.Generate(request))

    messages = admin.messages
    operator.SetLogLevel(messages.SetLogLevelRequest(level=messages.LOG_LEVEL_WARNING))
    generate("unlogged")
    operator.SetLogLevel(messages.SetLogLevelRequest(level=messages.LOG_LEVEL_INFO))
    generate("logged")
    for _ in range(600):
        if any(" id=logged " in line for line in steered.lines):
            break
        time.sleep(0.05)
    assert [line for line in steered.lines if " id=logged " in line]
    assert not [line for line in steered.lines if "unlogged" in line]


def test_drain_ends_it_as_sigterm_does(api, admin, start_server):
    own = start_server("--drain-limit=100s", "--admin-listen=127.0.0.1:0")
    with grpc.insecure_channel(own.value("admin_listening", "address")) as channel:
        operator = admin.services.AdminServiceStub(channel)
        stub = api.generation_grpc.GenerationServiceStub(own.channel)
        request = endless(api, "finishes")
        request.stopping.max_tokens = 2000
        stream = stub.Generate(request)
        tokens = len(next(stream).token_ids)
        operator.Drain(admin.messages.DrainRequest())
        own.wait_for("draining")
        status = operator.GetStatus(admin.messages.GetStatusRequest())
        assert status.state == admin.messages.SERVING_STATE_DRAINING
        with pytest.raises(grpc.RpcError) as error:
            list(stub.Generate(request))
        assert error.value.code() == grpc.StatusCode.UNAVAILABLE
        operator.Drain(admin.messages.DrainRequest())
        own.process.send_signal(signal.SIGTERM)  # as Kubernetes does after a drain of its own
        for message in stream:
            tokens += len(message.token_ids)
    assert tokens == 2000
    assert own.process.wait(timeout=60) == 0
