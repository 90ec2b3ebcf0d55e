#!/usr/bin/env python3
"""Measures what gRPC costs: the same closed loop on an engine alone, and through a server's loopback.

    python3 tests/bench/grpc_share.py --users 16,64 [--model models/demo] [--device auto] [--repeats 3]

Both draw the same requests (sluice-loadgen's planner, random prompts, ended by their number of tokens). "Through
loopback" includes the load generator: it shares this machine's cores with the server, so what it takes of them (the
last column) counts as gRPC's; the engine alone has no such client. The share is 1 - tokens a second through loopback /
tokens a second of the engine alone, medians of runs in turns. Prints a Markdown table; --json also writes every run.
"""
import argparse
import contextlib
import json
import pathlib
import statistics
import subprocess
import sys
import tempfile
import time

ROOT = pathlib.Path(__file__).resolve().parents[2]
START_LIMIT = 600  # seconds


def alone(options, users):
    command = [str(options.build / "tests" / "engine_load"), f"--model={options.model}", f"--device={options.device}",
               f"--slots={options.slots}", f"--users={users}", f"--prompt_tokens={options.prompt_tokens}",
               f"--output_tokens={options.output_tokens}", f"--warmup={options.warmup}",
               f"--duration={options.duration}"]
    run = json.loads(subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout)
    return {"tokens": run["output_tokens_per_second"], "p50": run["inter_token_seconds"]["p50"],
            "p99": run["inter_token_seconds"]["p99"], "loadgen": 0.0}


def through_loopback(options, users, address):
    with tempfile.NamedTemporaryFile(suffix=".json") as file:
        command = [str(options.build / "client" / "loadgen" / "sluice-loadgen"), "--server", address,
                   "--users", str(users), "--prompt-tokens", options.prompt_tokens, "--output-tokens",
                   options.output_tokens, "--ignore-eos", "--warmup", options.warmup, "--duration", options.duration,
                   "--connections", str(options.connections), "--connect-limit", "120s", "--fail-on-errors", "--json",
                   file.name]
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
        run = json.load(open(file.name, encoding="utf-8"))
    gap = run["latency_seconds"]["inter_token"]
    return {"tokens": run["throughput"]["output_tokens_per_second"], "p50": gap["p50"], "p99": gap["p99"],
            "loadgen": run["loadgen"]["cpu_share"]}


def wait_until_serving(process, log):
    """The address that the server's log names."""
    deadline = time.monotonic() + START_LIMIT
    while process.poll() is None and time.monotonic() < deadline:
        # Time, level, event and fields; the last line may not be whole yet.
        lines = [line.split() for line in log.read_text(encoding="utf-8").splitlines(keepends=True) if line[-1] == "\n"]
        fields = {line[2]: line[3:] for line in lines if len(line) > 2}
        if "serving" in fields:
            return next(field.removeprefix("address=") for field in fields["listening"] if field.startswith("address="))
        time.sleep(0.05)
    raise RuntimeError("the server does not serve")


@contextlib.contextmanager
def server(options):
    """The address of a server that serves. Ends this program with the server's log if that ends early."""
    with tempfile.NamedTemporaryFile(suffix=".log") as file:
        log = pathlib.Path(file.name)
        process = subprocess.Popen(
            [str(options.build / "server" / "sluice-server"), f"--model={options.model}", f"--device={options.device}",
             f"--slots={options.slots}", "--listen=127.0.0.1:0", "--metrics-listen=", "--max-client-requests=0"],
            stderr=file)
        try:
            yield wait_until_serving(process, log)
        finally:
            ended = process.poll()
            process.terminate()
            process.wait()
            if ended is not None:
                sys.exit(f"the server ended early, with {ended}:\n{log.read_text(encoding='utf-8')}")


def median(runs, key):
    return statistics.median(run[key] for run in runs)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--build", default=ROOT / "build", type=pathlib.Path)
    parser.add_argument("--model", default=str(ROOT / "models" / "demo"))
    parser.add_argument("--device", default="auto")
    parser.add_argument("--slots", default=0, type=int, help="0: the default")
    parser.add_argument("--users", default="16")
    parser.add_argument("--connections", default=4, type=int)
    parser.add_argument("--prompt-tokens", default="64")
    parser.add_argument("--output-tokens", default="64")
    parser.add_argument("--warmup", default="3s")
    parser.add_argument("--duration", default="15s")
    parser.add_argument("--repeats", default=3, type=int)
    parser.add_argument("--json", help="a file for every run")
    options = parser.parse_args()
    print("| users | engine alone, tok/s | through loopback, tok/s | share of gRPC | alone, inter-token p50 / p99 | "
          "loopback, inter-token p50 / p99 | load generator, of a core |\n|--:|--:|--:|--:|--:|--:|--:|")
    everything = {}
    for users in map(int, options.users.split(",")):
        engine, loopback = [], []
        for _ in range(options.repeats):
            engine.append(alone(options, users))
            with server(options) as address:
                loopback.append(through_loopback(options, users, address))
        everything[users] = {"engine": engine, "loopback": loopback}
        share = 1 - median(loopback, "tokens") / median(engine, "tokens")
        print(f"| {users} | {median(engine, 'tokens'):,.0f} | {median(loopback, 'tokens'):,.0f} | {100 * share:.1f} % "
              f"| {1e3 * median(engine, 'p50'):.2f} / {1e3 * median(engine, 'p99'):.2f} ms "
              f"| {1e3 * median(loopback, 'p50'):.2f} / {1e3 * median(loopback, 'p99'):.2f} ms "
              f"| {100 * median(loopback, 'loadgen'):.0f} % |", flush=True)
    if options.json:
        pathlib.Path(options.json).write_text(json.dumps(everything, indent=1), encoding="utf-8")


if __name__ == "__main__":
    main()
