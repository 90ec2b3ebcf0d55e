"""Connections to a running server: how many, how long, and what happens without file descriptors."""
import resource
import socket
import time

import grpc
import pytest
from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc

PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + b"\x00\x00\x00\x04\x00\x00\x00\x00\x00"  # and empty settings


def connect(server):
    """A connection that has shaken hands and says no more."""
    host, port = server.address.rsplit(":", 1)
    connection = socket.create_connection((host, int(port)), timeout=30)
    connection.sendall(PREFACE)
    return connection


def is_served(connection):
    """Whether the server answers with its settings rather than closing."""
    try:
        return connection.recv(1) != b""
    except ConnectionResetError:
        return False


def generate(api, server):
    """Over a connection of its own."""
    with grpc.insecure_channel(server.address, options=[("grpc.use_local_subchannel_pool", 1)]) as channel:
        request = api.generation.GenerateRequest(text="Call me")
        request.stopping.max_tokens = 2
        stub = api.generation_grpc.GenerationServiceStub(channel)
        return list(stub.Generate(request, wait_for_ready=True, timeout=60))


def wait_for_metric(server, name, wanted):
    for _ in range(600):
        value = server.metrics()[name]
        if wanted(value):
            return
        time.sleep(0.05)
    raise AssertionError(f"{name} is {value}")


def test_hundreds_of_idle_connections_cost_little(api, start_server):
    server = start_server("--max-connections=600")
    assert resource.prlimit(server.process.pid, resource.RLIMIT_NOFILE)[0] >= 600 + 256
    before = server.metrics()
    assert before["sluice_serving"] == 1
    idle = [connect(server) for _ in range(500)]
    assert all(is_served(connection) for connection in idle)
    after = server.metrics()
    assert after["sluice_connections"] >= 500
    cost = after["process_resident_memory_bytes"] - before["process_resident_memory_bytes"]
    assert server.sanitized or cost < 100 << 20
    assert generate(api, server)

    more = [connect(server) for _ in range(150)]
    refused = [connection for connection in more if not is_served(connection)]
    assert len(refused) >= 50
    name = 'sluice_connections_refused_total{reason="limit"}'
    assert server.metrics()[name] == len(refused)
    assert "reason=limit" in server.wait_for("connection_refused")
    for connection in idle + more:
        connection.close()
    assert generate(api, server)
    wait_for_metric(server, "sluice_connections", lambda value: value < 10)
    assert server.stop() == 0


def test_a_server_without_descriptors_serves_those_it_has_and_then_all(api, start_server):
    server = start_server()
    kept = connect(server)
    assert is_served(kept)
    stub = api.generation_grpc.GenerationServiceStub(server.channel)
    request = api.generation.GenerateRequest(text="Call me")
    assert list(stub.Generate(request))
    before = server.metrics()["process_open_fds"]
    _, hard = resource.prlimit(server.process.pid, resource.RLIMIT_NOFILE)
    resource.prlimit(server.process.pid, resource.RLIMIT_NOFILE, (int(before) + 20, hard))
    held = [connect(server) for _ in range(60)]
    refused = [connection for connection in held if not is_served(connection)]
    assert len(refused) >= 30
    assert list(stub.Generate(request)), "who is connected is served"
    assert "reason=descriptors" in server.wait_for("connection_refused")
    for connection in held:
        connection.close()
    assert generate(api, server), "and so is everybody once there are descriptors again"
    assert server.metrics()['sluice_connections_refused_total{reason="descriptors"}'] >= len(refused)
    lines = [line for line in server.lines if " connection_refused " in line]
    assert len(lines) < 20
    assert server.stop() == 0


def test_a_socket_file_is_named_in_the_log(api, start_server, tmp_path):
    server = start_server(f"--listen=unix:{tmp_path / 'socket'}", "--reflection=false")
    assert server.address == f"unix:{tmp_path / 'socket'}"
    assert generate(api, server)
    assert " peer=unix:" in server.wait_for("request")
    with pytest.raises(grpc.RpcError) as error:
        ask = reflection_pb2.ServerReflectionRequest(list_services="")
        list(reflection_pb2_grpc.ServerReflectionStub(server.channel).ServerReflectionInfo(iter([ask])))
    assert error.value.code() == grpc.StatusCode.UNIMPLEMENTED
    assert server.stop() == 0
    assert not (tmp_path / "socket").exists()
