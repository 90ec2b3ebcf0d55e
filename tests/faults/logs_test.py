"""A standard error that takes no lines: full, closed, or without a reader."""
import fcntl
import os
import select
import signal
import socket
import time
import urllib.request

import pytest

from faults.conftest import GENERATE, OK, wait_until
from faults.http2 import Connection, grpc_message, open_socket

LOST = "sluice_log_lines_lost_total"


class Addresses:
    """Ports that were free a moment ago, for a server whose log cannot tell."""

    def __init__(self):
        with socket.create_server(("127.0.0.1", 0)) as one, socket.create_server(("127.0.0.1", 0)) as two:
            self.grpc, self.http = (f"127.0.0.1:{each.getsockname()[1]}" for each in (one, two))

    @property
    def flags(self):
        return (f"--listen={self.grpc}", f"--metrics-listen={self.http}", "--drain-limit=0s")

    def lost_lines(self):
        with urllib.request.urlopen(f"http://{self.http}/metrics", timeout=30) as page:
            lines = page.read().decode().splitlines()
        return next(float(line.split(" ")[1]) for line in lines if line.startswith(LOST + " "))

    def is_open(self):
        try:
            open_socket(self.http).close()
            return True
        except OSError:
            return False


def ask(address, api, count=1, name="x" * 128):
    """So many requests after one another, each of which logs a line."""
    request = api.generation.GenerateRequest(text="It was", request_id=name)
    request.stopping.max_tokens = 1
    with Connection(address) as connection:
        for index in range(count):
            stream = 1 + 2 * index
            connection.call(stream, GENERATE, grpc_message(request.SerializeToString()))
            assert connection.wait(stream).code == OK


def wait_until_serving(addresses, api):
    def serves():
        with Connection(addresses.grpc) as connection:
            request = api.generation.GenerateRequest(text="It was")
            connection.call(1, GENERATE, grpc_message(request.SerializeToString()))
            return connection.wait(1).code == OK

    assert wait_until(addresses.is_open)
    assert wait_until(serves)


def test_a_full_disk(start, api):
    """/dev/full refuses each write as a full disk does."""
    addresses = Addresses()
    with open("/dev/full", "w", encoding="ascii") as full:
        process = start.process(*addresses.flags, stderr=full)
    try:
        wait_until_serving(addresses, api)
        before = addresses.lost_lines()
        assert before > 30, "the configuration was not counted"
        ask(addresses.grpc, api, 20)
        assert wait_until(lambda: addresses.lost_lines() >= before + 20)
        process.send_signal(signal.SIGTERM)
        assert process.wait(timeout=60) == 0
    finally:
        process.kill()
        process.wait()


def test_a_disk_that_has_room_again(start, api, tmp_path):
    """The lines that were lost are counted in the log itself. A limit on the file's size stands for
    the disk's."""
    resource = pytest.importorskip("resource")
    addresses, path = Addresses(), tmp_path / "log"
    with open(path, "w", encoding="ascii") as log:
        process = start.process(*addresses.flags, stderr=log,
                                preexec_fn=lambda: signal.signal(signal.SIGXFSZ, signal.SIG_IGN))
    try:
        wait_until_serving(addresses, api)
        size = wait_until(lambda: "serving" in path.read_text() and path.stat().st_size)
        limits = resource.prlimit(process.pid, resource.RLIMIT_FSIZE)
        resource.prlimit(process.pid, resource.RLIMIT_FSIZE, (size + 500, limits[1]))
        ask(addresses.grpc, api, 20)
        assert wait_until(lambda: addresses.lost_lines() > 0)
        resource.prlimit(process.pid, resource.RLIMIT_FSIZE, limits)
        ask(addresses.grpc, api, 20)
        said = wait_until(lambda: [line for line in path.read_text().splitlines()
                                   if " warning log_lines_lost lost=" in line])
        assert int(said[-1].split("lost=")[1]) == addresses.lost_lines()
        # A line that was cut by the limit ends before the next begins.
        assert all(line.startswith("20") for line in path.read_text().splitlines())
        process.send_signal(signal.SIGTERM)
        assert process.wait(timeout=60) == 0
    finally:
        process.kill()
        process.wait()


def read_until(reader, text, timeout=120):
    """The whole lines that a pipe gives up to the one with this text."""
    deadline, read = time.monotonic() + timeout, b""
    while text.encode() not in read.rpartition(b"\n")[0] and time.monotonic() < deadline:
        if select.select([reader], [], [], 1)[0]:
            read += os.read(reader, 65536)
    return read.decode().splitlines()


def test_a_reader_that_stops(start, api):
    """The pipe fills, and then the queue, of which the oldest lines are lost. Who reads again gets the newest, and how
    many were lost. SIGTERM works while nobody reads."""
    addresses = Addresses()
    reader, writer = os.pipe()
    fcntl.fcntl(writer, fcntl.F_SETPIPE_SZ, 4096)
    # gRPC's own lines fill the queue in little time.
    chatty = {**os.environ, "GRPC_VERBOSITY": "debug", "GRPC_TRACE": "http"}
    process = start.process(*addresses.flags, "--log-level=debug", stderr=writer, env=chatty)
    os.close(writer)
    try:
        wait_until_serving(addresses, api)
        assert wait_until(lambda: ask(addresses.grpc, api, 20) or addresses.lost_lines() > 0)
        ask(addresses.grpc, api, name="the-last")
        lines = read_until(reader, " request id=the-last ")
        assert any(" request id=the-last " in line for line in lines)
        said = [line for line in lines if " warning log_lines_lost lost=" in line]
        assert int(said[-1].split("lost=")[1]) == addresses.lost_lines()
        ask(addresses.grpc, api, 60)
        process.send_signal(signal.SIGTERM)
        assert process.wait(timeout=60) == 0
    finally:
        process.kill()
        process.wait()
        os.close(reader)


def test_a_reader_that_has_gone(start, api):
    addresses = Addresses()
    reader, writer = os.pipe()
    process = start.process(*addresses.flags, stderr=writer)
    os.close(writer)
    os.close(reader)
    try:
        wait_until_serving(addresses, api)
        assert addresses.lost_lines() > 0
        process.send_signal(signal.SIGTERM)
        assert process.wait(timeout=60) == 0
    finally:
        process.kill()
        process.wait()


def test_no_standard_descriptors_at_all(start, api):
    """No socket takes the place of standard error, to be sent the log."""
    addresses = Addresses()
    process = start.process(*addresses.flags, stderr=None,
                            preexec_fn=lambda: os.closerange(0, 3))
    try:
        wait_until_serving(addresses, api)
        ask(addresses.grpc, api, 5)
        assert {os.readlink(f"/proc/{process.pid}/fd/{number}") for number in range(3)} == {"/dev/null"}
        process.send_signal(signal.SIGTERM)
        assert process.wait(timeout=60) == 0
    finally:
        process.kill()
        process.wait()
