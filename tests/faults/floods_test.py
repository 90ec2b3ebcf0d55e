"""Cheap frames by the million, and headers that are too large."""
import contextlib
import re
import socket
import threading
import time
import urllib.parse

import pytest
from hyperframe.frame import DataFrame, PingFrame, RstStreamFrame, SettingsFrame

from faults.conftest import GENERATE, OK, RESOURCE_EXHAUSTED, wait_until
from faults.http2 import Connection, request_headers

SECONDS = 0.4
HEADERS, PRIORITY, CONTINUATION = 1, 2, 9
END_HEADERS = 4


def raw_frame(kind, flags, stream, body):
    return len(body).to_bytes(3, "big") + bytes([kind, flags]) + stream.to_bytes(4, "big") + body


def integer(value):
    """What follows the prefix of an HPACK integer that did not fit into it."""
    out = b""
    while value > 127:
        out += bytes([value & 127 | 128])
        value >>= 7
    return out + bytes([value])


def literal(name, value):
    """A header that HPACK is to forget."""
    length = bytes([len(value)]) if len(value) < 127 else b"\x7f" + integer(len(value) - 127)
    return b"\x00" + bytes([len(name)]) + name + length + value


def first_headers(connection):
    return raw_frame(HEADERS, 0, 1, connection.encoder.encode(request_headers(GENERATE)))


class Flood:
    """Sends blocks until the time is over or the server ends the connection."""

    def __init__(self, connection):
        self.connection = connection
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run)
        self.sent = 0

    def blocks(self):
        raise NotImplementedError

    def _run(self):
        for block in self.blocks():
            if self._stop.is_set() or not self.connection.send_bytes(block):
                return
            self.sent += len(block)

    @property
    def is_over(self):
        return not self._thread.is_alive()

    def join(self):
        self._thread.join(timeout=60)
        assert not self._thread.is_alive()

    def __enter__(self):
        self._thread.start()
        return self

    def __exit__(self, *_):
        self._stop.set()
        with contextlib.suppress(OSError):  # closed already
            self.connection.socket.shutdown(socket.SHUT_RDWR)  # ends a send that waits for room
        self.join()
        self.connection.close()


class Same(Flood):
    """The same block again and again, after a beginning."""
    beginning, block = b"", b""

    def blocks(self):
        yield self.beginning
        while True:
            yield self.block


class Pings(Same):
    block = PingFrame(opaque_data=b"12345678").serialize() * 500


class Settings(Same):
    block = SettingsFrame(settings={SettingsFrame.INITIAL_WINDOW_SIZE: 65535}).serialize() * 500


class WindowUpdates(Same):
    block = raw_frame(8, 0, 0, b"\x00\x00\x00\x01") * 500


class EmptyData(Flood):
    def blocks(self):
        yield self.connection.headers(1, request_headers(GENERATE)).serialize()
        while True:
            yield raw_frame(0, 0, 1, b"") * 500


class EmptyContinuations(Flood):
    def blocks(self):
        yield first_headers(self.connection)
        while True:
            yield raw_frame(CONTINUATION, 0, 1, b"") * 100_000


class OneLongHeader(Flood):
    """Its length says 1 GiB."""

    def blocks(self):
        yield first_headers(self.connection)
        yield raw_frame(CONTINUATION, 0, 1, b"\x00\x03x-y\x7f" + integer(1 << 30))
        while True:
            yield raw_frame(CONTINUATION, 0, 1, b"v" * 16384) * 64


class EndlessInteger(Flood):
    """A length that never ends to be told."""

    def blocks(self):
        yield first_headers(self.connection)
        yield raw_frame(CONTINUATION, 0, 1, b"\x00\x03x-y\x7f")
        while True:
            yield raw_frame(CONTINUATION, 0, 1, b"\x80" * 16384)


class HpackBomb(Flood):
    """A header of 3.9 kB that is put into the table once and then named by one byte."""

    def blocks(self):
        entry = b"\x40\x03x-b\x7f" + integer(3900 - 127) + b"b" * 3900
        head = self.connection.encoder.encode(request_headers(GENERATE))
        yield raw_frame(HEADERS, END_HEADERS | 1, 1, head + entry)
        for stream in range(3, 1 << 30, 2):
            head = self.connection.encoder.encode(request_headers(GENERATE))
            yield raw_frame(HEADERS, END_HEADERS | 1, stream, head + b"\xbe" * 16000)


class Priorities(Flood):
    """Of streams that there are none of."""

    def blocks(self):
        while True:
            yield b"".join(raw_frame(PRIORITY, 0, 2 * index + 1, b"\0\0\0\0\x10")
                           for index in range(500))


FLOODS = [Pings, Settings, Priorities, WindowUpdates, EmptyData, EmptyContinuations, OneLongHeader,
          EndlessInteger, HpackBomb]


def cpu_share(server):
    """Of one core, over a moment."""
    before = server.cpu_seconds()
    time.sleep(0.3)
    return (server.cpu_seconds() - before) / 0.3


def check_service(server, flood):
    """Others are served while it goes on, and nothing of it stays."""
    with server.survives(mib=120), flood(Connection(server.address)) as running:
        deadline = time.monotonic() + SECONDS
        served = 0
        while time.monotonic() < deadline or not served:
            assert server.ask().code == OK
            served += 1
    assert running.sent > 0
    assert wait_until(lambda: cpu_share(server) < 0.1), "it spins"


def test_floods_of_frames(start):
    server = start()
    for flood in FLOODS:
        check_service(server, flood)


@pytest.mark.parametrize("flood", [OneLongHeader, EmptyContinuations])
def test_floods_that_nothing_answers_are_cut_off(start, flood):
    """gRPC takes them as fast as they come, at the cost of a core, and in the end of its life."""
    server = start()
    with server.survives(mib=120), flood(Connection(server.address)) as running:
        assert wait_until(lambda: running.is_over, timeout=60)
        assert running.connection.closed
        assert server.metrics()["sluice_connections_cut_total"] == 1
        assert ' connection_cut reason=' in server.wait_for("connection_cut")


class EndlessHeaders(Flood):
    """A header block that goes on and on, each frame below every limit (CVE-2023-33953). Small headers take several
    times their bytes, so the memory is full before so much has come that it is a flood."""

    def blocks(self):
        yield first_headers(self.connection)
        block = b"".join(raw_frame(CONTINUATION, 0, 1, literal(b"x-%05d" % index, b"v") * 100)
                         for index in range(100))
        while True:
            yield block


class RapidReset(Flood):
    """Calls that are taken back before they can be answered (CVE-2023-44487)."""
    server, calls = None, 5000

    def blocks(self):
        request = self.server.request(max_tokens=1000)
        for stream in range(1, 2 * self.calls, 2):
            yield b"".join(frame.serialize() for frame in (
                self.connection.headers(stream, request_headers(GENERATE)),
                DataFrame(stream, data=request, flags=["END_STREAM"]),
                RstStreamFrame(stream, error_code=8)))


def test_rapid_resets(start):
    server = start()
    with server.survives(mib=150):
        connection = Connection(server.address, source="127.0.0.2")
        flood = RapidReset(connection)
        flood.server = server
        with flood:
            for _ in range(5):
                assert server.ask().code == OK
            flood.join()
        assert server.metrics()['sluice_errors_total{code="INVALID_ARGUMENT"}'] == 0


def test_a_flood_that_fills_the_memory_is_cut_off(start):
    """gRPC keeps all of it; the connection is ended before that is too much."""
    server = start("--max-traffic-memory=67108864")
    with server.survives(mib=80):
        with EndlessHeaders(Connection(server.address)) as running:
            while not running.is_over:
                assert server.ask().code == OK
        assert running.connection.closed, "the client gave up first"
        assert server.metrics()["sluice_connections_cut_total"] == 1
        line = server.wait_for("connection_cut")
        assert ' warning connection_cut reason=memory ' in line and 'peer="127.0.0.1 port' in line


@pytest.mark.heavy
def test_rapid_resets_for_long(start):
    server = start("--max-traffic-memory=134217728")
    with server.survives(mib=250):
        connection = Connection(server.address, source="127.0.0.2")
        flood = RapidReset(connection)
        flood.server, flood.calls = server, 1_000_000
        with flood:
            while not flood.is_over:
                assert server.ask().code == OK
        assert connection.closed
        assert server.metrics()["sluice_connections_cut_total"] >= 1


HUGE = {
    # Headers over the limit of 16,384 bytes, by the number and the size of each.
    "one of 100 kB": (1, 100_000), "a thousand": (1000, 20), "thirty of 1 kB": (30, 1000)}


@pytest.mark.parametrize("count, size", HUGE.values(), ids=HUGE)
def test_headers_over_the_limit_are_refused(start, count, size):
    server = start()
    with server.survives(), Connection(server.address) as connection:
        block = connection.encoder.encode(request_headers(GENERATE))
        block += b"".join(literal(b"x-%05d" % index, b"v" * size) for index in range(count))
        parts = [block[at:at + 16384] for at in range(0, len(block), 16384)]
        for index, part in enumerate(parts):
            last = END_HEADERS if index == len(parts) - 1 else 0
            connection.send_bytes(raw_frame(CONTINUATION if index else HEADERS, last, 1, part))
        connection.send(DataFrame(1, data=server.request(), flags=["END_STREAM"]))
        answer = connection.wait(1)
        assert answer.code == RESOURCE_EXHAUSTED, answer
        assert re.fullmatch(r"metadata: \d+ bytes; the limit is 16384",
                            urllib.parse.unquote(answer.message))


def test_headers_below_the_limit_are_taken(start):
    server = start()
    with server.survives(), Connection(server.address) as connection:
        connection.call(1, GENERATE, server.request(), **{f"x_{i}": "v" * 50 for i in range(50)})
        assert connection.wait(1).code == OK
