"""What the soak promises, each judged from what was seen. tests/soak/README.md says why the limits are as they are."""
import collections
from typing import NamedTuple

WARM_UP = 1 / 3  # of a process's life: nothing is judged in it
FEWEST_SAMPLES = 8  # after it
LEAK_BYTES = 100  # a request
WANDERING_KIB = 2048  # by which an allocator's memory may differ between two looks without a leak
MORE_DESCRIPTORS = 2  # the scrape of the metrics, and what its thread pool keeps open
RECONNECT_NS = 10_000_000_000  # until the last client has noticed that the server is back
NOTICE_NS = 1_000_000_000  # until a client has read what came last
FINISHED = ("stop", "length")
# Of all requests, what must at least have happened: 30 %, 5 % and 5 % are meant to.
FEWEST_CANCELLED, FEWEST_SLOW, FEWEST_INVALID = 0.25, 0.04, 0.04


class Verdict(NamedTuple):
    promise: str
    kept: bool
    seen: str


def judge_all_over(tally, wanted, load_codes):
    """Every request that was to be sent has one end."""
    ended = collections.Counter(attempt.index for attempt in tally.attempts if attempt.end != "turned away")
    once = len(ended) == wanted and set(ended.values()) <= {1}
    return Verdict("every request has ended", wanted > 0 and once and not any(load_codes), f"{len(ended)} of {wanted}")


def judge_mix(tally):
    """By what happened, not by what was drawn: who would cancel may be too late."""
    over = max(1, tally.over)
    cancelled, slow, invalid = (count / over for count in (
        tally.ends["cancelled"], tally.compared["slow"], tally.ends["refused"]))
    others = (tally.ends["answered"] - tally.compared["slow"]) / over
    return Verdict("the load is mixed",
                   cancelled >= FEWEST_CANCELLED and slow >= FEWEST_SLOW and invalid >= FEWEST_INVALID,
                   f"{100 * cancelled:.1f} % were cancelled by their client ({100 * tally.begun / over:.1f} % after a "
                   f"token), {100 * slow:.1f} % finished for a slow reader, {100 * others:.1f} % for others, "
                   f"{100 * invalid:.1f} % were invalid")


def judge_texts(tally):
    compared = sum(tally.compared.values())
    return Verdict("every finished stream is that of the request alone", bool(compared) and not tally.wrong,
                   f"{compared} streams ({tally.compared['slow']} of slow readers) of {len(tally.plans_compared)} "
                   f"requests compared, {tally.ends['cancelled']} cancelled ones ({tally.begun} with tokens) as far as "
                   f"they came; {len(tally.wrong)} differ")


def is_of_restart(attempt, before, after):
    """Whether it was turned away by a server that was ending or starting."""
    if attempt.error == "CANCELLED":
        return before.signalled_ns <= attempt.over <= before.ended_ns + NOTICE_NS
    return attempt.over >= before.signalled_ns and attempt.sent <= after.serving_ns + RECONNECT_NS


def judge_errors(tally, servers):
    """`servers` in the order of their lives."""
    away = [attempt for attempt in tally.attempts if attempt.end == "turned away"]
    restarts = list(zip(servers, servers[1:]))
    stray = [attempt for attempt in away if not any(is_of_restart(attempt, *restart) for restart in restarts)]
    cancelled = sum(attempt.error == "CANCELLED" for attempt in away)
    return Verdict("no error but the intended", not tally.unexpected and not stray,
                   f"{tally.ends['refused']} invalid requests were refused by the field's name; {len(away)} times a "
                   f"request was turned away, {cancelled} of them by CANCELLED, the others by UNAVAILABLE, "
                   f"{len(stray)} at another time than a restart; {len(tally.unexpected)} other errors")


def open_at(tally, ns):
    """The streams that had begun and were not over."""
    return [attempt for attempt in tally.attempts if 0 < attempt.first < ns < attempt.over]


def judge_drain(tally, server, number):
    """A SIGTERM under load: what ran was finished whole, and the process ended as it should."""
    under_way = open_at(tally, server.signalled_ns)
    failed = [attempt for attempt in under_way if attempt.end not in ("answered", "cancelled")]
    drained = next((line for line in server.lines() if line["event"] == "drained"), {})
    whole = drained.get("requests") == "finished"
    return Verdict(f"SIGTERM {number} cuts nothing", bool(under_way) and not failed and whole and server.exit_code == 0,
                   f"{len(under_way)} streams were under way, {len(failed)} failed; drained: requests "
                   f"{drained.get('requests')}, streams {drained.get('streams')}; exit code {server.exit_code} after "
                   f"{(server.ended_ns - server.signalled_ns) / 1e9:.1f} s")


def judge_slots(servers, slots):
    """None is lost between two looks, and without a load all are free."""
    looks = [look for server in servers for look in server.slots]
    idle = [look for server in servers for look, _ in server.idle]
    odd = [look for look in looks if look.used + look.free != slots or look.running > slots]
    leaked = [look for look in idle if look.used or look.running or look.waiting or look.free != slots]
    every = all(server.idle for server in servers)
    return Verdict("no slot is lost", bool(looks) and every and not odd and not leaked,
                   f"{len(idle)} looks without a load, {len(leaked)} with a slot or a request left; "
                   f"{len(looks)} looks under load, {len(odd)} in which used and free are not {slots} together")


def log_problems(tally, servers):
    """Where what the clients saw and what the servers wrote down do not match."""
    logged = collections.defaultdict(list)
    for server in servers:
        for line in server.lines():
            if line["event"] == "request":
                logged[line["id"]].append(line)
    refused = collections.Counter()
    for attempt in tally.attempts:
        lines = logged[attempt.id]
        if attempt.end == "refused":
            refused[attempt.id] += 1
        elif attempt.end == "answered" and [line["outcome"] in FINISHED for line in lines] != [True]:
            yield f"{attempt.id} was answered, and {len(lines)} times logged as finished"
        elif attempt.end == "cancelled" and len(lines) > 1:
            yield f"{attempt.id} was cancelled, and {len(lines)} times logged"
        elif attempt.end == "turned away" and [line.get("code") for line in lines] not in ([], ["UNAVAILABLE"]):
            yield f"{attempt.id} was turned away, and logged as {lines}"
    # A request that is refused for its id has no other name.
    lines = [line for lines in logged.values() for line in lines if line.get("code") == "INVALID_ARGUMENT"]
    if len(lines) != sum(refused.values()):
        yield f"{sum(refused.values())} requests were refused, {len(lines)} logged as that"


def judge_reports(tally, servers, counted):
    """`counted`: by the metrics of the last process when it was idle."""
    problems = list(log_problems(tally, servers))
    lines = [sum(line["event"] == "request" for line in server.lines()) for server in servers]
    if counted != lines[-1]:
        problems.append(f"the last process counts {counted} requests and logs {lines[-1]}")
    return Verdict("every request is reported once", not problems,
                   f"{' + '.join(map(str, lines))} lines of requests in the logs; the last process counts {counted}; "
                   + ("; ".join(problems[:3]) if problems else "all match"))


def slope(points):
    """Of the line of least squares through (x, y)."""
    points = list(points)
    mean_x = sum(x for x, _ in points) / len(points)
    mean_y = sum(y for _, y in points) / len(points)
    spread = sum((x - mean_x) ** 2 for x, _ in points)
    return sum((x - mean_x) * (y - mean_y) for x, y in points) / spread if spread else 0.0


def longest_life(servers):
    """The samples after the warm-up of the process that saw the most requests."""
    lives = [server.samples for server in servers if server.samples]
    if not lives:
        return []
    life = max(lives, key=lambda samples: samples[-1].requests - samples[0].requests)
    warm = life[0].requests + WARM_UP * (life[-1].requests - life[0].requests)
    return [sample for sample in life if sample.requests >= warm]


def judge_memory(servers, judged=True):
    """Flat: no slope of a leak, or so little in all that it is the allocator's."""
    samples = longest_life(servers)
    if len(samples) < FEWEST_SAMPLES:
        return Verdict("memory is flat", not judged, f"{len(samples)} samples are too few to say")
    kib_a_request = slope((sample.requests, sample.anonymous_kib) for sample in samples)
    kib_a_second = slope((sample.seconds, sample.anonymous_kib) for sample in samples)
    requests = samples[-1].requests - samples[0].requests
    flat = kib_a_request * 1024 < LEAK_BYTES or kib_a_request * requests < WANDERING_KIB
    sizes = [sample.anonymous_kib / 1024 for sample in samples]
    return Verdict("memory is flat", flat or not judged,
                   f"{1000 * kib_a_request:+.1f} KiB in 1,000 requests, {kib_a_second:+.2f} KiB/s over {requests} "
                   f"requests; {min(sizes):.1f} to {max(sizes):.1f} MiB, resident {samples[-1].resident_kib / 1024:.1f}"
                   + ("" if judged else "; not judged under a sanitizer, which keeps what was freed"))


def judge_descriptors(servers, idle_before):
    """`idle_before`: of the first process before it had a client."""
    samples = longest_life(servers)
    idle = [count for server in servers for _, count in server.idle]
    if not samples or not idle:
        return Verdict("descriptors are flat", False, "no samples")
    counts = [sample.descriptors for sample in samples]
    part = max(1, len(counts) // 4)
    before, after = (sorted(some)[len(some) // 2] for some in (counts[:part], counts[-part:]))
    flat = after <= before + MORE_DESCRIPTORS and max(idle) <= idle_before + MORE_DESCRIPTORS
    return Verdict("descriptors are flat", flat,
                   f"under load {before} at first, {after} at last, {max(counts)} at most; without clients "
                   f"{idle_before} at first, {max(idle)} at most later")
