"""What an operator's tools see: health, reflection, metrics, logs, SIGTERM."""
import signal
import threading
import time
import urllib.request

import grpc
import pytest
from google.protobuf.descriptor_pool import DescriptorPool
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha.proto_reflection_descriptor_database import ProtoReflectionDescriptorDatabase
from hyperframe.frame import PingFrame

from faults.http2 import Connection, grpc_message

SERVING = health_pb2.HealthCheckResponse.SERVING
NOT_SERVING = health_pb2.HealthCheckResponse.NOT_SERVING
ENHANCE_YOUR_CALM = 11  # of HTTP/2
PING_SECONDS = 5.5  # a little more than the server wants between two
SERVICES = ["sluice.v1.GenerationService", "sluice.v1.ModelService"]


def long_request(api, max_tokens):
    request = api.generation.GenerateRequest(text="Call me Ishmael.")
    request.stopping.max_tokens = max_tokens
    request.stopping.ignore_eos = True
    return request


@pytest.mark.parametrize("service", ["", *SERVICES])
def test_health_says_serving(server, service):
    health = health_pb2_grpc.HealthStub(server.channel)
    assert health.Check(health_pb2.HealthCheckRequest(service=service)).status == SERVING


def test_health_knows_no_other_service(server):
    health = health_pb2_grpc.HealthStub(server.channel)
    with pytest.raises(grpc.RpcError) as error:
        health.Check(health_pb2.HealthCheckRequest(service="no.such.Service"))
    assert error.value.code() == grpc.StatusCode.NOT_FOUND


def test_reflection_describes_the_services(server):
    database = ProtoReflectionDescriptorDatabase(server.channel)
    assert set(database.get_services()) >= {*SERVICES, "grpc.health.v1.Health"}
    pool = DescriptorPool(database)
    service = pool.FindServiceByName("sluice.v1.GenerationService")
    assert service.methods_by_name["Generate"].server_streaming
    request = pool.FindMessageTypeByName("sluice.v1.GenerateRequest")
    assert "sampling" in request.fields_by_name


def test_metrics_count_what_is_done(api, generation, server):
    before = server.metrics()
    last = list(generation.Generate(long_request(api, 40)))[-1]
    for _ in range(200):
        after = server.metrics()
        if after["sluice_request_output_tokens_count"] > before["sluice_request_output_tokens_count"]:
            break
        time.sleep(0.02)

    def grown(name):
        return after[name] - before[name]

    assert grown('sluice_requests_total{kind="generate",outcome="length"}') == 1
    assert grown("sluice_output_tokens_total") == 40
    assert grown("sluice_prompt_tokens_total") == last.finished.usage.prompt_tokens
    assert grown("sluice_time_to_first_token_seconds_count") == 1
    assert grown("sluice_inter_token_latency_seconds_count") == 39
    assert grown("sluice_step_duration_seconds_count") >= 40
    assert grown("sluice_request_duration_seconds_count") == 1
    assert grown("sluice_request_output_tokens_sum") == 40
    assert after['sluice_state_slots{state="used"}'] == 0
    assert after['sluice_state_slots{state="free"}'] == 16
    assert after["sluice_state_bytes"] > 0
    assert after["process_resident_memory_bytes"] > 1 << 20
    assert any(name.startswith("sluice_build_info{") for name in after)


def test_every_metric_has_help_and_base_units(server):
    with urllib.request.urlopen(server.metrics_url, timeout=30) as page:
        lines = page.read().decode().splitlines()
    helped = {line.split()[2] for line in lines if line.startswith("# HELP")}
    typed = {line.split()[2] for line in lines if line.startswith("# TYPE")}
    assert typed == helped
    ours = {name for name in typed if name.startswith("sluice_")}
    assert len(ours) >= 20
    assert not [name for name in ours if name.endswith(("_ms", "_us", "_milliseconds"))]


def test_the_log_has_a_line_a_request_without_its_text(api, generation, server):
    request = long_request(api, 3)
    request.text = "UNSPEAKABLE words"
    request.request_id = "find-me"
    list(generation.Generate(request))
    for _ in range(200):
        lines = [line for line in server.lines if "find-me" in line]
        if lines:
            break
        time.sleep(0.02)
    assert len(lines) == 1
    assert " request id=find-me peer=ipv4:127.0.0.1:" in lines[0]
    assert " output_tokens=3 " in lines[0] and lines[0].endswith(" outcome=length")
    assert not [line for line in server.lines if "UNSPEAKABLE" in line]


def ping(connection):
    """Whether a ping is answered before a GOAWAY or the connection's end."""
    connection.send(PingFrame(opaque_data=b"are you?"))
    while not connection.goaway and not connection.closed:
        frame = connection.read()
        if isinstance(frame, PingFrame) and "ACK" in frame.flags:
            return True
    return False


def test_clients_may_ping_an_idle_connection(api, server):
    """The third ping that comes too early is followed by a GOAWAY. Of three at once two come too early, so a fourth
    after PING_SECONDS shows whether that is often enough for the server; for gRPC by default it is five minutes."""
    request = grpc_message(long_request(api, 3).SerializeToString())
    with Connection(server.address) as connection:
        assert all(ping(connection) for _ in range(3))
        time.sleep(PING_SECONDS)
        assert ping(connection)
        connection.call(1, "/sluice.v1.GenerationService/Generate", request)
        assert connection.wait(1).code == 0
        # The server does count; the call made it begin anew.
        assert not all(ping(connection) for _ in range(6))
        assert connection.goaway.error_code == ENHANCE_YOUR_CALM


def test_sigterm_tells_watchers_and_finishes_streams(api, start_server):
    own = start_server("--drain-limit=100s")
    watched = []
    changed = threading.Condition()

    def watch():
        health = health_pb2_grpc.HealthStub(own.channel)
        try:
            for answer in health.Watch(health_pb2.HealthCheckRequest()):
                with changed:
                    watched.append(answer.status)
                    changed.notify_all()
        except grpc.RpcError:
            pass  # the server ends the watch when it goes

    watcher = threading.Thread(target=watch)
    watcher.start()
    with changed:
        assert changed.wait_for(lambda: watched == [SERVING], 30)
    stub = api.generation_grpc.GenerationServiceStub(own.channel)
    stream = stub.Generate(long_request(api, 400))
    tokens = len(next(stream).token_ids)
    own.process.send_signal(signal.SIGTERM)
    with changed:
        assert changed.wait_for(lambda: watched == [SERVING, NOT_SERVING], 30)
    own.wait_for("draining")  # watchers are told before the first refusal
    with pytest.raises(grpc.RpcError) as error:
        next(stub.Generate(long_request(api, 1)))
    assert error.value.code() == grpc.StatusCode.UNAVAILABLE
    for message in stream:
        tokens += len(message.token_ids)
    assert tokens == 400
    assert message.finished.reason == api.generation.FINISH_REASON_LENGTH
    assert own.process.wait(timeout=60) == 0
    watcher.join(timeout=30)
    assert not watcher.is_alive()
