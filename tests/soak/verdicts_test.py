"""What the soak must not overlook, each shown to its judge. Feeds it a run without a fault and spoils one thing."""
import types

import pytest

from soak import verdicts
from soak.soaked_server import Sample, Slots
from soak.tally import Tally, answer_of, read_references

SLOTS = 64
SECOND = 1_000_000_000


def line(index, **changes):
    """What soak_load writes of a request that was answered."""
    finished = {"reason": "FINISH_REASON_LENGTH", "stopped_by": "", "prompt_tokens": 5, "output_tokens": 3, "seed": 7}
    return {"index": index, "plan": 0, "kind": "plain", "id": f"soak-{index}-0", "field": "", "end": "answered",
            "error": "", "message": "", "sent_ns": (90 + index) * SECOND, "first_ns": (95 + index) * SECOND,
            "end_ns": (110 + index) * SECOND, "text": "one two", "token_ids": [1, 2, 3], "finished": finished,
            **changes}


REFERENCES = read_references([line(0)])
CANCELLED = {"kind": "cancel", "end": "cancelled", "text": "one", "token_ids": [1], "finished": None}
REFUSED = {"kind": "invalid", "end": "refused", "field": "text", "message": "text: must not be empty", "text": "",
           "token_ids": [], "finished": None, "first_ns": 0}
AWAY = {"end": "error", "error": "UNAVAILABLE", "message": "draining", "text": "", "token_ids": [], "finished": None,
        "first_ns": 0}


def tally_of(*lines):
    tally = Tally(REFERENCES)
    for one in lines:
        tally.add(one)
    return tally


def good_lines():
    """Under way at the SIGTERM, which comes at 100 s: 0 to 4. Turned away: 5, which is then answered."""
    return [line(0), line(1, kind="slow"), line(2, **CANCELLED), line(3, **REFUSED),
            line(4, finished={**line(0)["finished"]}), line(5, **AWAY), line(5, id="soak-5-1"), line(6, **CANCELLED)]


def logged(lines):
    """The server's log of these."""
    outcomes = {"answered": {"outcome": "length"}, "cancelled": {"outcome": "cancelled", "code": "CANCELLED"},
                "refused": {"outcome": "error", "code": "INVALID_ARGUMENT"},
                "error": {"outcome": "error", "code": "UNAVAILABLE"}}
    requests = [{"event": "request", "id": one["id"], **outcomes[one["end"]]} for one in lines]
    return [*requests, {"event": "drained", "requests": "finished", "streams": "read"}]


def server_of(answered=(), **changes):
    """A process that served from 0 s, got SIGTERM at 100 s and ended at 130 s."""
    log = logged(answered)
    samples = [Sample(second, 100 * second, 90_000, 80_000 + 40 * (second % 3), 20) for second in range(60)]
    good = {"samples": samples, "slots": [Slots(10, 54, 10, 0)] * 60, "idle": [(Slots(0, SLOTS, 0, 0), 11)],
            "signalled_ns": 100 * SECOND, "ended_ns": 130 * SECOND, "serving_ns": 0, "exit_code": 0,
            "lines": lambda: log}
    return types.SimpleNamespace(**{**good, **changes})


def next_server():
    return server_of(signalled_ns=500 * SECOND, ended_ns=510 * SECOND, serving_ns=140 * SECOND)


def all_verdicts(lines, server, counted=0, wanted=7):
    tally, servers = tally_of(*lines), [server, next_server()]
    return [verdicts.judge_all_over(tally, wanted, [0]), verdicts.judge_mix(tally), verdicts.judge_texts(tally),
            verdicts.judge_errors(tally, servers), verdicts.judge_drain(tally, server, 1),
            verdicts.judge_slots(servers, SLOTS), verdicts.judge_reports(tally, servers, counted),
            verdicts.judge_memory(servers), verdicts.judge_descriptors(servers, idle_before=11)]


def broken(*arguments, **named):
    return [verdict.promise for verdict in all_verdicts(*arguments, **named) if not verdict.kept]


def test_a_run_without_a_fault_keeps_every_promise():
    lines = good_lines()
    assert broken(lines, server_of(lines)) == []


FINISHED = line(0)["finished"]
TEXTS, ERRORS = "every finished stream is that of the request alone", "no error but the intended"
REPORTS = "every request is reported once"


@pytest.mark.parametrize("index, changes, promise", [
    (0, {"text": "one too"}, TEXTS),
    (0, {"token_ids": [1, 2, 4]}, TEXTS),
    (0, {"finished": {**FINISHED, "reason": "FINISH_REASON_STOP"}}, TEXTS),
    (1, {"text": "one"}, TEXTS),  # a slow reader's
    (2, {"text": "two"}, TEXTS),  # a cancelled one's beginning
    (2, {"token_ids": [2]}, TEXTS),
    (3, {"message": "that will not do"}, ERRORS),
    (3, {"end": "error", "error": "INVALID_ACCEPTED"}, ERRORS),
    (4, {"end": "error", "error": "INTERNAL"}, ERRORS),
    (4, {"end": "error", "error": "CUT_SHORT"}, ERRORS),
    (4, {"end": "error", "error": "UNAVAILABLE"}, ERRORS),  # after its first tokens
    (5, {"sent_ns": 20 * SECOND, "end_ns": 21 * SECOND}, ERRORS),  # turned away without a restart
    (5, {"error": "CANCELLED", "end_ns": 140 * SECOND}, ERRORS),  # when the process was long gone
    (5, {"error": "RESOURCE_EXHAUSTED"}, ERRORS),
])
def test_a_wrong_end_is_seen(index, changes, promise):
    lines = good_lines()
    server = server_of(lines)
    lines[index] = {**lines[index], **changes}
    assert promise in broken(lines, server)


def test_requests_that_never_end_or_end_twice_are_seen():
    lines = good_lines()
    assert "every request has ended" in broken(lines, server_of(lines), wanted=8)
    twice = [*lines, line(0)]
    assert "every request has ended" in broken(twice, server_of(lines))
    assert not verdicts.judge_all_over(tally_of(*lines), 7, [0, 1]).kept


def mixed(cancelled, slow, invalid, too_late=0):
    """A hundred requests, one of which is turned away at first."""
    changes = [CANCELLED] * cancelled + [{"kind": "slow"}] * slow + [REFUSED] * invalid
    changes += [{"kind": "cancel"}] * too_late
    changes += [{}] * (100 - len(changes))
    return verdicts.judge_mix(tally_of(line(0, **AWAY), *(line(index, **one) for index, one in enumerate(changes))))


def test_a_mix_is_judged_by_what_happened():
    seen = mixed(25, 4, 4)
    assert seen.kept
    assert seen.seen == ("25.0 % were cancelled by their client (25.0 % after a token), 4.0 % finished for a slow "
                         "reader, 67.0 % for others, 4.0 % were invalid")
    assert not mixed(24, 4, 4, too_late=6).kept
    assert not mixed(30, 3, 5).kept
    assert not mixed(30, 5, 3).kept
    assert not verdicts.judge_mix(tally_of()).kept


@pytest.mark.parametrize("changes", [
    {"exit_code": 1},
    {"lines": lambda: [{"event": "drained", "requests": "cut", "streams": "read"}]},
    {"lines": lambda: []},
    {"signalled_ns": 300 * SECOND},  # when nothing was under way
])
def test_a_drain_that_is_none_is_seen(changes):
    assert not verdicts.judge_drain(tally_of(*good_lines()), server_of(**changes), 1).kept


@pytest.mark.parametrize("idle", [Slots(1, 63, 0, 0), Slots(0, 63, 0, 0), Slots(0, 64, 1, 0), Slots(0, 64, 0, 1)])
def test_a_slot_that_is_lost_is_seen(idle):
    lines = good_lines()
    assert broken(lines, server_of(lines, idle=[(idle, 11)])) == ["no slot is lost"]


def test_slots_that_do_not_add_up_under_load_are_seen():
    lines = good_lines()
    assert broken(lines, server_of(lines, slots=[Slots(10, 53, 10, 0)])) == ["no slot is lost"]


@pytest.mark.parametrize("change", [
    lambda log: log[1:],  # one is missing
    lambda log: [log[0], *log],  # one is there twice
    lambda log: [{**log[0], "outcome": "error", "code": "INTERNAL"}, *log[1:]],
    lambda log: [{**entry, "outcome": "length", "code": None} if entry.get("code") == "UNAVAILABLE" else entry
                 for entry in log],  # turned away, but taken
    lambda log: [entry for entry in log if entry.get("code") != "INVALID_ARGUMENT"],
])
def test_a_log_that_does_not_match_is_seen(change):
    lines = good_lines()
    log = change(logged(lines))
    assert broken(lines, server_of(lines, lines=lambda: log)) == (
        [REPORTS] if any(entry["event"] == "drained" for entry in log) else [REPORTS, "SIGTERM 1 cuts nothing"])


def test_a_metric_that_counts_otherwise_than_the_log_is_seen():
    lines = good_lines()
    assert broken(lines, server_of(lines), counted=1) == [REPORTS]


def leaking(bytes_a_request, requests_a_second):
    """Samples of ten minutes, with the noise of an allocator."""
    return [Sample(second, requests_a_second * second, 90_000,
                   80_000 + round(bytes_a_request * requests_a_second * second / 1024) + 300 * (second % 3), 20)
            for second in range(600)]


def test_memory_that_grows_with_every_request_is_seen():
    lines = good_lines()
    assert broken(lines, server_of(lines, samples=leaking(200, 60))) == ["memory is flat"]
    assert broken(lines, server_of(lines, samples=leaking(20, 60))) == []
    seen = verdicts.judge_memory([server_of(samples=leaking(200, 60))], judged=False)
    assert seen.kept and "not judged" in seen.seen


def test_memory_of_too_short_a_life_is_not_judged_as_flat():
    assert not verdicts.judge_memory([server_of(samples=leaking(0, 60)[:9])]).kept


def test_memory_before_the_warm_up_is_not_looked_at():
    samples = [sample._replace(anonymous_kib=sample.anonymous_kib - (30_000 if sample.seconds < 150 else 0))
               for sample in leaking(0, 60)]
    assert verdicts.judge_memory([server_of(samples=samples)]).kept


def test_descriptors_that_grow_are_seen():
    lines = good_lines()
    growing = [sample._replace(descriptors=20 + int(sample.seconds) // 10) for sample in server_of().samples]
    assert broken(lines, server_of(lines, samples=growing)) == ["descriptors are flat"]
    assert broken(lines, server_of(lines, idle=[(Slots(0, SLOTS, 0, 0), 15)])) == ["descriptors are flat"]


def test_a_reference_that_failed_is_none():
    with pytest.raises(RuntimeError, match="failed alone"):
        read_references([line(0, end="error", error="INTERNAL")])
    assert answer_of(line(0)) == REFERENCES[0]
