"""One client that takes every slot and the whole queue."""
import time

import grpc

from faults.conftest import GENERATE, OK, RESOURCE_EXHAUSTED, wait_until
from faults.http2 import Connection

SLOTS, QUEUE = 2, 6


def take_everything(server):
    """A connection whose streams run in every slot and wait at every place of the queue."""
    connection = Connection(server.address)
    for index in range(SLOTS + QUEUE):
        connection.call(1 + 2 * index, GENERATE, server.request(max_tokens=10_000_000))
    assert wait_until(lambda: server.metrics()["sluice_requests_waiting"] == QUEUE)
    return connection


def test_others_are_refused_at_once_and_served_when_it_drains(start, api):
    server = start(f"--slots={SLOTS}", f"--max-waiting={QUEUE}", "--max-client-requests=100")
    with server.survives():
        greedy = take_everything(server)
        began = time.monotonic()
        answers = [server.ask() for _ in range(20)]
        assert time.monotonic() - began < (20 if server.sanitized else 1)  # some 20 ms
        assert {answer.code for answer in answers} == {RESOURCE_EXHAUSTED}
        stub = api.generation_grpc.GenerationServiceStub(server.channel)
        error = stub.Generate(api.generation.GenerateRequest(text="x")).exception()
        assert error.code() == grpc.StatusCode.RESOURCE_EXHAUSTED
        assert error.details() == (f"the server is full: {SLOTS} requests may run and {QUEUE} may "
                                   "wait; try again later")
        assert server.metrics()['sluice_errors_total{code="RESOURCE_EXHAUSTED"}'] == 21
        greedy.close()
        assert wait_until(lambda: server.ask().code == OK)
        server.channel.close()


def test_another_client_still_gets_in(start):
    """With a limit a client, the places that one may not take are there for the next."""
    server = start(f"--slots={SLOTS}", f"--max-waiting={QUEUE}", "--max-client-requests=4")
    with server.survives():
        greedy = Connection(server.address)
        for index in range(SLOTS + QUEUE):
            greedy.call(1 + 2 * index, GENERATE, server.request(max_tokens=10_000_000))
        last = greedy.wait(1 + 2 * (SLOTS + QUEUE - 1))
        assert last.code == RESOURCE_EXHAUSTED, last
        assert last.message.startswith("this client has 4 calls under way, which is its limit")
        other = Connection(server.address, source="127.0.0.2")
        other.call(1, GENERATE, server.request())
        assert wait_until(lambda: server.metrics()["sluice_requests_waiting"] == 3)
        greedy.close()
        assert other.wait(1).code == OK
        other.close()
