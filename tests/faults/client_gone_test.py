"""A client that goes away in the middle of its stream."""
import signal
import socket
import subprocess
import sys

import pytest
from hyperframe.frame import RstStreamFrame

from faults.conftest import GENERATE, wait_until
from faults.http2 import Connection, is_closed, reset
from faults.proxy import Proxy

CANCELLED_COUNT = 'sluice_requests_total{kind="generate",outcome="cancelled"}'


def cancel(connection):
    connection.send(RstStreamFrame(1, error_code=8))


def half_close(connection):
    connection.socket.shutdown(socket.SHUT_WR)


@pytest.mark.parametrize("leave", [cancel, half_close, lambda connection: reset(connection.socket),
                                   lambda connection: connection.close()],
                         ids=["RST_STREAM", "FIN", "RST", "close"])
def test_its_slot_is_free_at_once(start, leave):
    server = start("--slots=4")
    with server.survives():
        connection = server.begin()
        assert server.metrics()["sluice_requests_running"] == 1
        leave(connection)
        assert wait_until(lambda: server.metrics()[CANCELLED_COUNT] == 1)
        connection.close()


def test_a_client_that_is_killed(start):
    server = start("--slots=4")
    script = ("import sys; sys.path[:] = eval(sys.argv[1])\n"
              "from faults.http2 import Connection\n"
              "connection = Connection(sys.argv[2])\n"
              "connection.call(1, sys.argv[3], bytes.fromhex(sys.argv[4]))\n"
              "while True:\n"
              "    connection.read()\n"
              "    if connection.answer(1).data: print(1, flush=True)\n")
    with server.survives():
        client = subprocess.Popen(
            [sys.executable, "-c", script, repr(sys.path), server.address, GENERATE,
             server.request(max_tokens=10_000_000).hex()], stdout=subprocess.PIPE)
        assert client.stdout.readline() == b"1\n"
        client.send_signal(signal.SIGKILL)
        client.communicate()
        assert wait_until(lambda: server.metrics()[CANCELLED_COUNT] == 1)


def test_many_that_leave_at_once(start):
    server = start("--slots=8")
    with server.survives():
        connections = [Connection(server.address) for _ in range(40)]
        for connection in connections:
            connection.call(1, GENERATE, server.request(max_tokens=10_000_000))
        assert wait_until(lambda: server.metrics()["sluice_requests_waiting"] == 32)
        for connection in connections:
            reset(connection.socket)
        assert wait_until(lambda: server.metrics()[CANCELLED_COUNT] == 40)


def test_a_network_that_is_gone_is_noticed_by_keepalive(start):
    """Nobody closes anything: TCP itself would wait for ever."""
    server = start("--slots=4", "--keepalive=1s")
    with server.survives(), Proxy(server.address) as proxy:
        streaming, idle = Connection(proxy.address), Connection(proxy.address)
        streaming.call(1, GENERATE, server.request(max_tokens=10_000_000))
        streaming.wait_for(lambda: streaming.answer(1).data)
        idle.wait_for(lambda: idle.frames)
        proxy.stop()
        assert wait_until(lambda: server.metrics()[CANCELLED_COUNT] == 1)
        assert not is_closed(idle.socket, 0.1), "the proxy said something"
        streaming.close()
        idle.close()
