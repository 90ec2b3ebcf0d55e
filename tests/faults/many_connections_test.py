"""More connections than anybody needs, or than there are descriptors for."""
import resource
import time

import pytest

from faults.conftest import GENERATE, OK, wait_until
from faults.http2 import Connection, is_closed, open_socket

IDLE = 5000


@pytest.fixture
def many_files():
    """Room for both ends of IDLE connections; a server inherits it."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = IDLE + 500
    if hard != resource.RLIM_INFINITY and hard < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, wanted))  # for root
    else:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
    yield
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, resource.getrlimit(resource.RLIMIT_NOFILE)[1]))


def seconds_to_answer(server):
    """Of the quickest of three, since the machine may have other work."""
    seconds = []
    for _ in range(3):
        began = time.monotonic()
        assert server.ask().code == OK
        seconds.append(time.monotonic() - began)
    return min(seconds)


def test_five_thousand_idle_connections(start, many_files, capsys):
    """A request among them takes some milliseconds, and each of them some 18 KiB."""
    server = start()
    server.ask()
    before = server.resident_mib()
    with server.survives(mib=130):
        idle = [Connection(server.address) for _ in range(IDLE)]
        for connection in idle:
            connection.wait_for(lambda c=connection: c.frames)  # the server's settings
        assert server.open_files() >= IDLE
        cost = (server.resident_mib() - before) * 1024 / IDLE
        took = seconds_to_answer(server)
        # Each of them is as good as a new one.
        for connection in idle[::500]:
            connection.call(1, GENERATE, server.request())
            assert connection.wait(1).code == OK
        idle_cpu = server.cpu_seconds()
        time.sleep(0.5)
        idle_cpu = server.cpu_seconds() - idle_cpu
        for connection in idle:
            connection.close()
    with capsys.disabled():
        print(f"\n{IDLE} idle connections: {cost:.1f} KiB each, the quickest of three requests took "
              f"{took * 1e3:.0f} ms")
    assert server.sanitized or cost < 30
    assert took < (10 if server.sanitized else 0.2)
    assert idle_cpu < 0.4, "a core is busy with connections that are silent"


def test_one_connection_too_many_is_closed_at_once(start):
    server = start("--max-connections=6")
    with server.survives():
        stream = server.begin()
        idle = [Connection(server.address) for _ in range(5)]
        for connection in idle:
            connection.wait_for(lambda c=connection: c.frames)
        for _ in range(20):
            with open_socket(server.address) as excess:
                assert is_closed(excess)
        metrics = server.metrics()
        assert metrics['sluice_connections_refused_total{reason="limit"}'] == 20
        assert metrics["sluice_connections"] == 6
        # The streams that are open go on, and so do new calls on open connections.
        bytes_before = len(stream.answer(1).data)
        stream.wait_for(lambda: len(stream.answer(1).data) > bytes_before + 1000)
        idle[0].call(1, GENERATE, server.request())
        assert idle[0].wait(1).code == OK
        # Room again.
        for connection in (*idle, stream):
            connection.close()
        assert wait_until(lambda: server.metrics()["sluice_connections"] == 0)
        assert server.ask().code == OK


def test_out_of_descriptors(start):
    """What is open goes on, what is new is closed at once; with descriptors comes service."""
    server = start()
    with server.survives():
        stream = server.begin()
        hard = resource.prlimit(server.process.pid, resource.RLIMIT_NOFILE)[1]
        limit = server.open_files() + 20
        resource.prlimit(server.process.pid, resource.RLIMIT_NOFILE, (limit, hard))
        more = [Connection(server.address) for _ in range(60)]

        def refused():
            return sum(is_closed(connection.socket, 0.05) for connection in more)

        assert wait_until(lambda: refused() >= 30)
        before = len(stream.answer(1).data)
        stream.wait_for(lambda: len(stream.answer(1).data) > before + 1000)
        cpu = server.cpu_seconds()
        stream.close()
        assert wait_until(lambda: server.process.poll() is None)
        time.sleep(0.5)
        assert server.cpu_seconds() - cpu < 0.4, "it spins"
        for connection in more:
            connection.close()
        assert wait_until(lambda: server.ask().code == OK)
        metrics = server.metrics()
        assert metrics['sluice_connections_refused_total{reason="descriptors"}'] >= 30
        resource.prlimit(server.process.pid, resource.RLIMIT_NOFILE, (hard, hard))
