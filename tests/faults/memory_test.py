"""Too little memory to start, and requests that ask for much of it."""
import re
import resource

import pytest

from faults.conftest import ENDLESS, GENERATE, INVALID_ARGUMENT, OK, RESOURCE_EXHAUSTED, wait_until
from faults.http2 import Connection


@pytest.mark.parametrize("flags", [["--memory-fraction=0.000001"],
                                   ["--slots=4096", "--memory-fraction=0.01"]])
def test_a_start_without_room_says_what_is_needed_and_what_there_is(start, flags):
    server = start.process("--listen=127.0.0.1:0", "--metrics-listen=", *flags)
    log = server.communicate(timeout=60)[1]
    assert server.returncode == 1
    assert " serving " not in log
    found = re.search(r"not enough memory for (\d+) state slots?: (\d+) bytes are needed \(weights "
                      r"\d+, buffers for steps of \d+ tokens \d+, states \d+\); .* had (\d+) bytes "
                      r"free, of which [\d.e-]+ may be taken: (\d+)", log)
    assert found, log
    slots, needed, free, allowed = map(int, found.groups())
    assert slots == (4096 if "--slots=4096" in flags else 1)
    assert needed > allowed and free > allowed


@pytest.mark.heavy
def test_an_address_space_that_is_too_small(start):
    """Under `ulimit -v`, with which no sanitizer runs."""
    limit = 1200 << 20
    server = start.process(
        "--listen=127.0.0.1:0", "--metrics-listen=", "--threads=2", "--slots=1024",
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_AS, (limit, limit)))
    log = server.communicate(timeout=60)[1]
    assert server.returncode == 1
    needed, free = map(int, re.search(
        r"not enough memory for 1024 state slots: (\d+) bytes are needed .* had (\d+) bytes free",
        log).groups())
    assert needed > free and free < limit
    assert "loaded" not in log, "it read the weights in vain"


def test_huge_max_tokens_cost_nothing_ahead(start):
    server = start("--slots=16")
    with server.survives():
        before = server.resident_mib()
        connections = [server.begin(max_tokens=ENDLESS) for _ in range(16)]
        assert server.sanitized or server.resident_mib() - before < 40
        for connection in connections:
            connection.close()
        over = server.ask(max_tokens=ENDLESS + 1)
        assert over.code == INVALID_ARGUMENT
        assert f"stopping.max_tokens is {ENDLESS + 1}" in over.message


def test_large_prompts_that_wait_are_bounded(start):
    """The queue has room for a thousand requests, but not for a thousand large prompts."""
    server = start("--slots=2", "--max-waiting=2000", "--max-client-requests=2000",
                   "--max-waiting-tokens=200000")
    with server.survives(mib=120):
        running = [server.begin() for _ in range(2)]
        large = "word " * 20_000
        connection = Connection(server.address)
        answers = []
        for index in range(60):
            stream = 3 + 2 * index
            connection.upload(stream, GENERATE, server.request(text=large))
            answers.append(stream)
        assert wait_until(lambda: server.metrics()["sluice_waiting_tokens"] > 150_000)
        connection.wait_for(
            lambda: sum(connection.answer(stream).ended for stream in answers) >= 45)
        refused = [connection.answer(stream) for stream in answers if connection.answer(stream).ended]
        assert {answer.code for answer in refused} == {RESOURCE_EXHAUSTED}
        assert "--max-waiting-tokens" in refused[0].message or "waiting" in refused[0].message
        # What is small still gets a place.
        small = Connection(server.address)
        small.call(1, GENERATE, server.request())
        for stream in (*running, connection):
            stream.close()
        assert small.wait(1).code == OK
        small.close()
