#!/usr/bin/env python3
"""Runs engine_bench on a random checkpoint of every family, and prints the figures as a Markdown table.

    .venv/bin/python tests/bench/families_bench.py [--size demo] [--device cpu] [MODEL ...]

A checkpoint is written to a temporary folder and removed when it has been measured, so there has to be room for one.
Needs `tools/build` and NumPy, which `tools/install --tests` puts into .venv. Tokens a second; in brackets the share of
the roofline as engine_bench counts it.
"""
import argparse
import pathlib
import subprocess
import sys
import tempfile

ROOT = pathlib.Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "tools"))
import engine_output  # noqa: E402
from random_checkpoint_sizes import SIZES  # noqa: E402


def parse_arguments():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("models", nargs="*", metavar="MODEL", help="default: all that have the size")
    parser.add_argument("--size", default="demo")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--prefill", default="1x512,1x4096")
    parser.add_argument("--decode", default="1,16")
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--build", type=pathlib.Path, default=ROOT / "build")
    arguments = parser.parse_args()
    arguments.models = arguments.models or [m for m in SIZES if arguments.size in SIZES[m]]
    for model in arguments.models:
        if arguments.size not in SIZES.get(model, {}):
            parser.error(f"there is no {model} of size {arguments.size}")
    return arguments


def measure(arguments, model):
    """What engine_bench prints of a model."""
    with tempfile.TemporaryDirectory() as folder:
        checkpoint = pathlib.Path(folder) / model
        subprocess.run(
            [sys.executable, ROOT / "tools/write_random_checkpoint.py", checkpoint,
             f"--model={model}", f"--size={arguments.size}",
             "--sluice", arguments.build / "client/sluice"],
            check=True, stdout=sys.stderr)
        return subprocess.run(
            [arguments.build / "tests/engine_bench", f"--model={checkpoint}",
             f"--device={arguments.device}", f"--prefill={arguments.prefill}",
             f"--decode={arguments.decode}", f"--repeats={arguments.repeats}"],
            check=True, stdout=subprocess.PIPE, text=True).stdout


def main():
    arguments = parse_arguments()
    for number, model in enumerate(arguments.models):
        said = measure(arguments, model)
        print(said, file=sys.stderr)
        output = engine_output.parse(said)
        figures = output.figures
        if number == 0:
            print(f"{output.device}, weights {output.dtype}\n")
            heads = "".join(f" {figure.what} {figure.shape} |" for figure in figures)
            print(f"| `model_type` | weights | state, MiB a sequence |{heads}")
            print(f"|---|--:|--:|{'--:|' * len(figures)}")
        cells = "".join(f" {figure.rate:,.0f} ({100 * figure.share:.0f} %) |" for figure in figures)
        print(f"| `{model}` | {output.weights} M | {output.state_mib} |{cells}", flush=True)


if __name__ == "__main__":
    main()
