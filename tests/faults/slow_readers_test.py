"""Clients that do not read what they asked for."""
import time

from hyperframe.frame import SettingsFrame

from faults.conftest import ENDLESS, GENERATE, RESOURCE_EXHAUSTED, wait_until
from faults.http2 import Connection

NO_WINDOW = {SettingsFrame.INITIAL_WINDOW_SIZE: 0}
STALLED = 8
# How much longer others may take beside slow readers: with as many quick ones they take twice as long.
SLOWER, SLOWER_SANITIZED = 1.7, 4
TOKENS = 120


def pace(server):
    """Seconds that four readers take for their streams: at best, since the machine may have other work."""
    return min(seconds_for_four(server) for _ in range(5))


def seconds_for_four(server):
    began = time.monotonic()
    connections = [Connection(server.address) for _ in range(4)]
    for connection in connections:
        connection.call(1, GENERATE, server.request(max_tokens=TOKENS))
    for connection in connections:
        assert len(server.tokens(connection.wait(1))) == TOKENS
        connection.close()
    return time.monotonic() - began


def test_many_slow_readers_cost_the_others_nothing_and_are_cut_off(start):
    server = start("--slots=16", "--stall-limit=3s")
    alone = pace(server)
    with server.survives():
        slow = [Connection(server.address, NO_WINDOW) for _ in range(STALLED)]
        for connection in slow:
            connection.call(1, GENERATE, server.request(max_tokens=ENDLESS, output=server.chatty))
        tokens = [-1, 0]
        while tokens[-1] != tokens[-2]:  # until all are held back
            time.sleep(0.2)
            tokens.append(server.metrics()["sluice_output_tokens_total"])
        assert server.metrics()["sluice_requests_running"] == STALLED
        assert pace(server) < (SLOWER_SANITIZED if server.sanitized else SLOWER) * alone
        # They were not cut off before the others were through.
        assert server.sanitized or server.metrics()["sluice_requests_running"] == STALLED
        assert wait_until(lambda: server.metrics()[
            'sluice_errors_total{code="RESOURCE_EXHAUSTED"}'] == STALLED)
        for connection in slow:
            answer = connection.wait(1)
            assert answer.code == RESOURCE_EXHAUSTED, answer
            assert answer.message == "the client left its stream unread for 3s"
            connection.close()


def test_an_answer_that_nobody_reads_is_given_up(start):
    """All of it was generated; it waits for its reader no longer than the limit."""
    server = start("--slots=4", "--stall-limit=1s")
    with server.survives(), Connection(server.address, NO_WINDOW) as connection:
        connection.call(1, GENERATE, server.request())
        assert wait_until(lambda: server.metrics()["sluice_request_output_tokens_count"] >= 2)
        answer = connection.wait(1)
        assert answer.code == RESOURCE_EXHAUSTED, answer
        assert answer.message == "the client left the end of its stream unread for 1s"
