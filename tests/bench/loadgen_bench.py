#!/usr/bin/env python3
"""Measures what sluice-loadgen itself costs and adds, against a server without a model.

    python3 tests/bench/loadgen_bench.py [--build build] [--duration 10s] [--rate 10000]

Both run on this machine and share its cores. Four loads: two open loops in which each token is sent at a known time,
and two closed loops without pauses, as much as the two together can pass on. Prints a Markdown table: messages a
second, the load generator's share of one core, and what it reports beside what the server was to send: latencies above
the schedule are what gRPC, the kernel, the server and the load generator add together. "server late" is how late the
server itself handed messages to gRPC.
"""
import argparse
import json
import pathlib
import subprocess
import tempfile

ROOT = pathlib.Path(__file__).resolve().parents[2]


def run(build, stub_flags, load_flags, duration):
    """One load: the report, and what the server says it sent."""
    stub = subprocess.Popen([str(build / "tests" / "loadgen_stub"), *stub_flags], stdout=subprocess.PIPE, text=True)
    try:
        address = stub.stdout.readline().strip()
        with tempfile.NamedTemporaryFile(suffix=".json") as file:
            command = [str(build / "client" / "loadgen" / "sluice-loadgen"), "--server", address, "--warmup", "2s",
                       "--duration", duration, "--json", file.name, *load_flags]
            subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
            report = json.load(open(file.name, encoding="utf-8"))
    finally:
        stub.terminate()
        said = stub.communicate()[0]
    return report, json.loads(said)


def milliseconds(report, name, *keys):
    latency = report["latency_seconds"][name]
    return " / ".join(f"{1e3 * latency[key]:.2f}" if key in latency else "-" for key in keys)


def row(title, schedule, report, sent):
    loadgen = report["loadgen"]
    late = sent["late_seconds"]
    print(f"| {title} | {report['throughput']['messages_per_second']:,.0f} "
          f"| {report['throughput']['answered_per_second']:,.0f} | {100 * loadgen['cpu_share']:.0f} % "
          f"| {schedule} | {milliseconds(report, 'time_to_first_token', 'p50', 'p99')} "
          f"| {milliseconds(report, 'inter_token', 'p50', 'p99')} "
          f"| {1e3 * late['p50']:.2f} / {1e3 * late['p99']:.2f} "
          f"| {1e3 * loadgen['sent_late_seconds']['p50']:.2f} / {1e3 * loadgen['sent_late_seconds']['p99']:.2f} "
          f"| {report['requests']['errors']} |", flush=True)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--build", default=str(ROOT / "build"), type=pathlib.Path)
    parser.add_argument("--duration", default="10s")
    parser.add_argument("--rate", default=10000, type=int, help="messages a second")
    options = parser.parse_args()
    rate = options.rate

    def measure(title, schedule, stub_flags, load_flags):
        load_flags += ["--prompt-tokens", "8", "--max-in-flight", "100000"] if "--rate" in load_flags else [
            "--prompt-tokens", "8"]
        row(title, schedule, *run(options.build, stub_flags, load_flags, options.duration))

    print("| load | messages/s | answers/s | load generator, of a core | schedule: first, then each | TTFT p50 / p99, ms "
          "| inter-token p50 / p99, ms | server late p50 / p99, ms | sent late p50 / p99, ms | errors |")
    print("|---|--:|--:|--:|--:|--:|--:|--:|--:|--:|")
    paced = ["--first_token=20ms", "--interval=20ms"]
    measure(f"{rate / 100:g} requests/s of 100 tokens", "20 ms, 20 ms", paced,
            ["--rate", str(rate / 100), "--output-tokens", "100"])
    measure(f"{rate / 10:g} requests/s of 10 tokens", "20 ms, 20 ms", paced,
            ["--rate", str(rate / 10), "--output-tokens", "10"])
    measure("answers of one message, 16 users", "0 ms", [], ["--users", "16", "--output-tokens", "1"])
    measure("streams of 100 tokens, 16 users", "0 ms, 0 ms", [], ["--users", "16", "--output-tokens", "100"])


if __name__ == "__main__":
    main()
