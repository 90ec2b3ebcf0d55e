"""Bytes that are no gRPC, calls that are none, messages that are none."""
import contextlib
import os
import random
import socket
import urllib.parse

import grpc
import pytest

from faults.conftest import CANCELLED, GENERATE, INVALID_ARGUMENT, OK, UNIMPLEMENTED, UNKNOWN
from faults.http2 import PREFACE, Connection, grpc_message, is_closed, open_socket


@pytest.fixture(scope="module")
def garbage():
    """Bytes of every kind, the same in every run."""
    return random.Random(7).randbytes(1 << 16)


def raw_frame(kind, flags, stream, body):
    return len(body).to_bytes(3, "big") + bytes([kind, flags]) + stream.to_bytes(4, "big") + body


def test_what_is_not_http2_is_closed(start, garbage):
    server = start()
    sent = {"bytes": garbage, "HTTP/1.1": b"GET / HTTP/1.1\r\nHost: x\r\n\r\n",
            "TLS": bytes.fromhex("16030100c8010000c40303") + garbage[:200],
            "after the preface": PREFACE + garbage,
            "a frame of 16 MiB": PREFACE + raw_frame(4, 0, 0, b"")[:9] + raw_frame(0, 0, 1, garbage),
            "settings of a strange size": PREFACE + raw_frame(4, 0, 0, b"1234567"),
            "a push promise": PREFACE + raw_frame(4, 0, 0, b"") + raw_frame(5, 4, 1, garbage[:50]),
            "data of no stream": PREFACE + raw_frame(4, 0, 0, b"") + raw_frame(0, 0, 0, b"x"),
            "headers that are no HPACK": PREFACE + raw_frame(4, 0, 0, b"")
                                         + raw_frame(1, 5, 1, b"\xff" * 50)}
    with server.survives():
        for what, data in sent.items():
            with open_socket(server.address) as peer:
                with contextlib.suppress(OSError):  # closed already
                    peer.sendall(data)
                    peer.shutdown(socket.SHUT_WR)
                assert is_closed(peer), what


def test_random_frames(start):
    """Well-formed headers of frames with any content, on a connection that began well."""
    draw = random.Random(11)
    server = start()
    with server.survives():
        for _ in range(60):
            with Connection(server.address) as connection:
                connection.call(1, GENERATE, server.request())
                for _ in range(20):
                    body = draw.randbytes(draw.choice([0, 1, 4, 5, 8, 40, 1000]))
                    connection.send_bytes(raw_frame(draw.randrange(12), draw.randrange(256),
                                                    draw.randrange(6), body))
                with contextlib.suppress(OSError):  # closed already
                    connection.socket.shutdown(socket.SHUT_WR)
                assert is_closed(connection.socket)


CALLS = {
    # What changes in the headers, then the code, and a part of the message.
    "unknown method": ({":path": "/sluice.v1.GenerationService/Nope"}, UNIMPLEMENTED, ""),
    "unknown service": ({":path": "/no.such.Service/Generate"}, UNIMPLEMENTED, ""),
    "no path": ({":path": "nope"}, UNIMPLEMENTED, ""),
    "GET": ({":method": "GET"}, UNKNOWN, "method"),
    "no te": ({"te": None}, UNKNOWN, ":te"),
    "gzip": ({"grpc_encoding": "gzip"}, UNIMPLEMENTED, "'gzip' is disabled"),
    "deflate": ({"grpc_encoding": "deflate"}, UNIMPLEMENTED, "'deflate' is disabled"),
    # gRPC takes these for what they can only be.
    "another content-type": ({"content_type": "text/plain"}, OK, ""),
    "no content-type": ({"content_type": None}, OK, ""),
    "a timeout of words": ({"grpc_timeout": "soon"}, OK, ""),
}


def varint_field(number, value):
    return bytes([number << 3, value])


MESSAGES = {
    "nothing": (b"", CANCELLED, "no request came"),
    "an empty message": (grpc_message(b""), INVALID_ARGUMENT, "prompt must be set"),
    "a message cut off": (grpc_message(b"\x0a\x02hi", length=100), CANCELLED, "no request came"),
    "half a length": (b"\x00\x00\x00", CANCELLED, "no request came"),
    "text as a number": (grpc_message(varint_field(1, 5)), INVALID_ARGUMENT, "prompt must be set"),
    "a field that ends early": (grpc_message(b"\x0a\x7fhi"), INVALID_ARGUMENT, "its bytes cannot be parsed"),
    "groups in groups": (grpc_message(b"\x0b" * 5000), INVALID_ARGUMENT, "its bytes cannot be parsed"),
    "wire type 7": (grpc_message(b"\x0f\xff"), INVALID_ARGUMENT, "its bytes cannot be parsed"),
    "text that is not UTF-8": (grpc_message(b"\x0a\x02\xc3\x28"), INVALID_ARGUMENT, "text: not valid UTF-8"),
    "a stop string that is not UTF-8": (grpc_message(b"\x0a\x01a\x22\x04\x12\x02\xc3\x28"),
                                        INVALID_ARGUMENT, "stopping.stop: not valid UTF-8"),
}


def message_of(answer):
    return urllib.parse.unquote(answer.message)


def test_a_call_that_is_none_gets_a_code(start):
    server = start()
    with server.survives():
        for what, (headers, code, message) in CALLS.items():
            with Connection(server.address) as connection:
                connection.call(1, headers.pop(":path", GENERATE), server.request(), **headers)
                answer = connection.wait(1)
                assert (what, answer.code) == (what, code), answer
                assert message in message_of(answer)
                # The connection is as good as before.
                connection.call(3, GENERATE, server.request())
                assert connection.wait(3).code == OK, what


def test_a_message_that_is_none_is_named(start):
    server = start()
    with server.survives():
        for what, (body, code, message) in MESSAGES.items():
            with Connection(server.address) as connection:
                connection.call(1, GENERATE, body)
                answer = connection.wait(1)
                assert (what, answer.code) == (what, code), answer
                assert message in message_of(answer), what
                connection.call(3, GENERATE, server.request())
                assert connection.wait(3).code == OK, what


def test_a_python_client_hears_of_its_oversize_message(start, api):
    server = start()
    with server.survives():
        stub = api.generation_grpc.GenerationServiceStub(server.channel)
        with pytest.raises(grpc.RpcError) as error:
            next(stub.Generate(api.generation.GenerateRequest(text="x" * (8 << 20))))
        assert error.value.code() == grpc.StatusCode.RESOURCE_EXHAUSTED
        assert "larger than max" in error.value.details()
        server.channel.close()


def test_garbage_on_the_metrics_port(start, garbage):
    server = start()
    host = urllib.parse.urlsplit(server.metrics_url).netloc
    with server.survives():
        for data in (garbage, PREFACE, b"GET /../../etc/passwd HTTP/1.1\r\nHost: x\r\n\r\n",
                     b"POST /metrics HTTP/1.1\r\nContent-Length: 99999999999\r\n\r\n" + garbage[:1000],
                     b"GET /metrics HTTP/1.1\r\n" + b"X: y\r\n" * 5000, b"GET " + b"/" * 50_000,
                     os.urandom(100)):
            with open_socket(host) as peer:
                with contextlib.suppress(OSError):  # closed before all of it was sent
                    peer.sendall(data)
                    peer.shutdown(socket.SHUT_WR)
                assert is_closed(peer)
        assert server.metrics()["sluice_requests_running"] == 0


def test_silent_clients_of_the_metrics_port_hold_nobody_up(start):
    server = start()
    host = urllib.parse.urlsplit(server.metrics_url).netloc
    with server.survives():
        silent = [open_socket(host) for _ in range(40)]
        for peer in silent[::2]:
            peer.sendall(b"GET /metrics HTTP/1.1\r\n")  # and no more
        assert server.metrics()["sluice_requests_running"] == 0
        for peer in silent:
            peer.close()
