#!/usr/bin/env python3
"""Kernels and engine beside flash-linear-attention, on one GPU in one run, with the ratios.

    tools/write_random_checkpoint.py DIR
    python3 tests/bench/beside_fla.py --model DIR [--build build] [--kernels-only]

Runs kernels_bench, engine_bench (GLA-1.3B) and fla_peer.py, whose needs it has, one after the other. A kernel's time is
that of calls in a CUDA graph on both sides. Prints a Markdown table.
"""
import argparse
import json
import pathlib
import re
import subprocess
import sys

import engine_output

ROOT = pathlib.Path(__file__).resolve().parents[2]
CHUNKS = ((1, 2048), (8, 2048), (1, 16384), (8, 4096), (1, 32768))
STEPS = (64, 128, 512)
PACKED = ((64, "float16 ring 16"), (64, "int8 ring 16"))  # states that the peer does not have
DECODES = (1, 64, 256)
PREFILLS = (2048, 16384)


def output_of(command):
    return subprocess.run([str(word) for word in command], check=True, stdout=subprocess.PIPE, text=True).stdout


def our_kernels(build):
    """Microseconds by (op, shape), of GLA-1.3B; the state's format, if it is not plain, ends the shape."""
    text = output_of([build / "tests/kernels_bench", "--device=cuda", "--shapes=gla-1.3b", "--op=gated"])
    rows = re.findall(r"^\| (gated_\w+) \| (\S+) gla-1.3b( \w+ ring \d+)? \| ([0-9.]+) ", text, re.MULTILINE)
    return {(op, shape + state): float(micros) for op, shape, state, micros in rows}


def our_engine(build, model):
    """Tokens a second by (what, shape)."""
    text = output_of([build / "tests/engine_bench", "--model", model, "--device", "cuda", "--decode",
                      ",".join(map(str, DECODES)), "--prefill", ",".join(map(str, PREFILLS))])
    return {(figure.what, figure.shape): figure.rate for figure in engine_output.parse(text).figures}


def peer(cases):
    lines = output_of([sys.executable, ROOT / "tests/bench/fla_peer.py", *cases]).splitlines()
    return {result["case"]: result for result in map(json.loads, lines)}


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--build", default=ROOT / "build", type=pathlib.Path)
    parser.add_argument("--model", help="a checkpoint of GLA-1.3B's shape")
    parser.add_argument("--kernels-only", action="store_true")
    options = parser.parse_args()
    if not options.model and not options.kernels_only:
        parser.error("--model is needed, or --kernels-only")

    ours = our_kernels(options.build)
    theirs = peer([f"chunk:{n}:{length}" for n, length in CHUNKS] + [f"step:{rows}:1" for rows in STEPS])
    print("| what | ours | flash-linear-attention | ours is faster by |\n|---|--:|--:|--:|")
    for n, length in CHUNKS:
        mine, its = ours["gated_chunk", f"{n}x{length}"], theirs[f"chunk:{n}:{length}"]["ms"] * 1e3
        print(f"| chunk kernel, {n} x {length:,} | {mine:,.1f} us | {its:,.1f} us | {its / mine:.2f} |")
    for rows in STEPS:
        mine, its = ours["gated_step", f"B={rows}"], theirs[f"step:{rows}:1"]["ms"] * 1e3
        print(f"| decode kernel, B={rows} | {mine:,.1f} us | {its:,.1f} us | {its / mine:.2f} |")
    for rows, state in PACKED:
        mine, its = ours["gated_step", f"B={rows} {state}"], theirs[f"step:{rows}:1"]["ms"] * 1e3
        print(f"| decode kernel, B={rows}, {state} | {mine:,.1f} us | {its:,.1f} us | {its / mine:.2f} |")
    if options.kernels_only:
        return
    ours = our_engine(options.build, options.model)
    theirs = peer([f"prefill:1:{length}" for length in PREFILLS] + [f"generate:{rows}:128" for rows in DECODES])
    for length in PREFILLS:
        mine, its = ours["prefill", f"1x{length}"], theirs[f"prefill:1:{length}"]["tokens_per_s"]
        print(f"| prefill, 1 x {length:,} | {mine:,.0f} tok/s | {its:,.0f} tok/s | {mine / its:.1f} |")
    for rows in DECODES:
        mine, its = ours["decode", f"B={rows}"], theirs[f"generate:{rows}:128"]["tokens_per_s"]
        print(f"| decode, B={rows} | {mine:,.0f} tok/s | {its:,.0f} tok/s | {mine / its:.1f} |")


if __name__ == "__main__":
    main()
