"""Soaks a server of the demo model: many mixed requests, two restarts, and a verdict on each promise.

tools/soak builds what this needs and runs it; tests/soak/README.md says what is checked and how.
"""
import argparse
import json
import pathlib
import subprocess
import sys
import tempfile
import threading
import time

from sanitized import is_sanitized
from soak import verdicts, workload
from soak.soaked_server import SoakedServer
from soak.tally import EXAMPLES, Tally, read_references

ROOT = pathlib.Path(__file__).resolve().parents[2]
LAPS = 4  # after each, everything is idle for a moment
RESTARTS = (1 / 3, 2 / 3)  # of the way: within the second and the third lap
SAMPLE_SECONDS = 0.5
PROGRESS_SECONDS = 10
HANG_SECONDS = 400  # nothing has ended for so long


class Load:
    """A soak_load process, whose lines go to `take` as they come."""

    def __init__(self, binary, address, plans, requests, take, *flags):
        self.process = subprocess.Popen(
            [str(binary), f"--server={address}", f"--plans={plans}", f"--requests={requests}", *flags],
            stdout=subprocess.PIPE, text=True, encoding="utf-8")
        self._thread = threading.Thread(target=self._read, args=(take,))
        self._thread.start()

    def _read(self, take):
        for line in self.process.stdout:
            take(json.loads(line))

    def running(self):
        return self._thread.is_alive()

    def end(self):
        """Its exit code, once all that it wrote has been taken."""
        code = self.process.wait()
        self._thread.join()
        return code


class Soak:
    """One run. `report` prints a line."""

    def __init__(self, options, scratch, report):
        self.options = options
        self.report = report
        build = pathlib.Path(options.build)
        self.server_binary = build / "server" / "sluice-server"
        self.load_binary = build / "tests" / "soak_load"
        self.scratch = pathlib.Path(scratch)
        self.plans = self.scratch / "plans"
        self.servers, self.load_codes = [], []
        self.tally = None
        self.begun = self.last_sample = self.last_progress = 0.0

    def run(self):
        """The verdicts."""
        drawn = workload.draw_plans(self.options.seed, self.options.plans)
        self.plans.write_text("".join(json.dumps(plan) + "\n" for plan in drawn), encoding="utf-8")
        self.tally = Tally(self._ask_alone(len(drawn)))
        lengths = [len(self.tally.references[plan]["token_ids"]) for plan in range(len(drawn))]
        requests = workload.draw_requests(self.options.seed, self.options.requests, lengths)
        self._start_server()
        server = self.servers[0]
        server.metrics()
        idle_before = server.descriptors()
        self.begun = time.monotonic()
        for lap in range(LAPS):
            self._run_lap(requests, lap, idle_before)
        counted = self.servers[-1].counted_requests()
        self.servers[-1].end()
        return self._judge(idle_before, counted)

    def _write_requests(self, requests):
        path = self.scratch / "requests"
        path.write_text("".join(f"{request}\n" for request in requests), encoding="utf-8")
        return path

    def _ask_alone(self, plans):
        begun = time.monotonic()
        server = SoakedServer(self.server_binary, self.options.model, self.scratch / "alone.log", self.options.slots,
                              self.options.server_flag)
        lines = []
        try:
            load = Load(self.load_binary, server.address, self.plans, self._write_requests(workload.alone(plans)),
                        lines.append, "--connections=1")
            code = load.end()
            server.end()
        finally:
            server.kill()
        if code != 0 or server.exit_code != 0 or len(lines) != plans:
            raise RuntimeError(f"the requests alone: {len(lines)} of {plans} answered, exit codes {code} and "
                               f"{server.exit_code}\n{server.tail()}")
        self.report(f"{plans} requests alone, one at a time: {time.monotonic() - begun:.0f} s")
        return read_references(lines)

    def _start_server(self):
        listen = self.servers[0].address if self.servers else "127.0.0.1:0"
        self.servers.append(SoakedServer(
            self.server_binary, self.options.model, self.scratch / f"server{len(self.servers)}.log", self.options.slots,
            [f"--listen={listen}", *self.options.server_flag]))

    def _share(self):
        """How much of the way is done."""
        share = self.tally.over / self.options.requests
        if self.options.seconds:
            share = max(share, (time.monotonic() - self.begun) / self.options.seconds)
        return share

    def _run_lap(self, requests, lap, idle_before):
        """Sends a part of the requests, with the restart that falls into it, and looks at the server after it."""
        over, flags = self.tally.over, [f"--users={self.options.users}"]
        to = self.options.requests * (lap + 1) // LAPS
        if self.options.seconds:
            left = self.begun + self.options.seconds * (lap + 1) / LAPS - time.monotonic()
            flags.append(f"--seconds={max(left, 0.1):.2f}")
            to = self.options.requests
        load = Load(self.load_binary, self.servers[-1].address, self.plans, self._write_requests(requests[over:to]),
                    self.tally.add, *flags)
        try:
            self._accompany(load)
            self.load_codes.append(load.end())
        finally:
            load.process.kill()
        self.servers[-1].look_at_idle(idle_before)

    def _accompany(self, load):
        """Until the load is over: samples, progress, restarts."""
        last_over, last_change = -1, time.monotonic()
        while load.running():
            now = time.monotonic()
            if len(self.tally.attempts) != last_over:
                last_over, last_change = len(self.tally.attempts), now
            if now - last_change > HANG_SECONDS:
                raise RuntimeError(f"no request has ended for {HANG_SECONDS} s\n{self.servers[-1].tail()}")
            if self.servers[-1].process.poll() is not None:
                raise RuntimeError(f"the server ended by itself\n{self.servers[-1].tail()}")
            self._observe(now)
            restarts = len(self.servers) - 1
            if restarts < len(RESTARTS) and self._share() >= RESTARTS[restarts]:
                self.servers[-1].end()
                self._start_server()
            time.sleep(0.05)

    def _observe(self, now):
        server = self.servers[-1]
        if now - self.last_sample >= SAMPLE_SECONDS:
            self.last_sample = now
            server.sample(self.tally.over)
        if now - self.last_progress >= PROGRESS_SECONDS and server.samples:
            self.last_progress = now
            last = server.samples[-1]
            failures = len(self.tally.wrong) + len(self.tally.unexpected)
            self.report(f"{now - self.begun:.0f} s: {self.tally.over} requests over, "
                        f"{self.tally.over / (now - self.begun):.0f}/s; process {len(self.servers)}, "
                        f"{last.anonymous_kib / 1024:.1f} MiB, {last.descriptors} descriptors; {failures} failures")

    def _judge(self, idle_before, counted):
        tally, servers = self.tally, self.servers
        wanted = tally.over if self.options.seconds else self.options.requests
        judged = [verdicts.judge_all_over(tally, wanted, self.load_codes), verdicts.judge_mix(tally),
                  verdicts.judge_texts(tally), verdicts.judge_errors(tally, servers)]
        judged += [verdicts.judge_drain(tally, server, number) for number, server in enumerate(servers[:-1], 1)]
        restarts = verdicts.Verdict("the server was restarted", len(servers) == len(RESTARTS) + 1
                                    and servers[-1].exit_code == 0,
                                    f"{len(servers) - 1} times on the same port; the last process ended with "
                                    f"{servers[-1].exit_code}")
        return [*judged, restarts, verdicts.judge_slots(servers, self.options.slots),
                verdicts.judge_reports(tally, servers, counted),
                verdicts.judge_memory(servers, judged=not is_sanitized(self.server_binary)),
                verdicts.judge_descriptors(servers, idle_before)]

    def kill(self):
        for server in self.servers:
            server.kill()


def parse_arguments(arguments):
    def positive(text):
        if int(text) < 1:
            raise argparse.ArgumentTypeError("has to be at least 1")
        return int(text)

    parser = argparse.ArgumentParser(prog="soak", description=__doc__.splitlines()[0])
    parser.add_argument("--requests", type=positive, default=100_000, help="default: 100000")
    parser.add_argument("--seconds", type=positive, help="send for so long instead, at most the requests")
    parser.add_argument("--users", type=positive, default=64, help="clients at once; default: 64")
    parser.add_argument("--plans", type=positive, help="distinct requests; default: a 25th of all, at most 4000")
    parser.add_argument("--seed", type=int, default=1, help="of everything that is drawn; default: 1")
    parser.add_argument("--slots", type=positive, default=64, help="of the server; default: 64")
    parser.add_argument("--server-flag", action="append", default=[], metavar="FLAG", help="one more of sluice-server")
    parser.add_argument("--json", type=pathlib.Path, metavar="FILE", help="write the report there, too")
    parser.add_argument("--build", default=str(ROOT / "build"), help="build folder; default: build")
    parser.add_argument("--model", default=str(ROOT / "models" / "demo"), help="model; default: models/demo")
    options = parser.parse_args(arguments)
    options.plans = options.plans or min(4000, max(1, options.requests // 25))
    return options


def report_of(soak, judged, seconds):
    """What --json writes."""
    servers = [{"samples": [sample._asdict() for sample in server.samples], "exit_code": server.exit_code,
                "drain_seconds": (server.ended_ns - server.signalled_ns) / 1e9} for server in soak.servers]
    return {"schema": "sluice-soak/1", "seconds": seconds, "requests": soak.tally.over, "users": soak.options.users,
            "seed": soak.options.seed, "verdicts": [verdict._asdict() for verdict in judged],
            "wrong": soak.tally.wrong[:EXAMPLES], "unexpected": soak.tally.unexpected[:EXAMPLES], "processes": servers}


def main(arguments):
    options = parse_arguments(arguments)

    def report(line):
        print(f"soak: {line}", flush=True)

    with tempfile.TemporaryDirectory(prefix="sluice-soak-") as scratch:
        soak = Soak(options, scratch, report)
        try:
            judged = soak.run()
            seconds = time.monotonic() - soak.begun
        except (RuntimeError, OSError) as error:
            report(f"failed: {error}")
            return 1
        finally:
            soak.kill()
        for example in soak.tally.wrong[:EXAMPLES] + soak.tally.unexpected[:EXAMPLES]:
            report(f"failure: {example}")
        for verdict in judged:
            report(f"{'kept' if verdict.kept else 'BROKEN'}: {verdict.promise}: {verdict.seen}")
        if options.json:
            options.json.write_text(json.dumps(report_of(soak, judged, seconds), indent=1) + "\n", encoding="utf-8")
    kept = sum(verdict.kept for verdict in judged)
    print(f"{soak.tally.over} requests in {seconds:.0f} s: {kept} promises kept, {len(judged) - kept} broken")
    return 0 if kept == len(judged) else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
