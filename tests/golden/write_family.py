"""Writes the goldens of every model but GLA: tiny checkpoints and their log-probabilities.

    python3 write_family.py [--out DIR] [--only NAME ...] [--device cuda|cpu|none] [--jobs N]

Needs NumPy; for the models that flash-linear-attention or transformers have, also PyTorch and them.
Each module of reference/ is a model: a plain float64 recurrence, and its checkpoints. For each
checkpoint this writes OUT/NAME/config.json, the weights (random, from a fixed seed) and
golden.json. The log-probabilities are those of flash-linear-attention or transformers in float32,
with TF32 off, where they have the model, else of the float64 recurrence.

Before anything is written, the script checks
- that the float64 recurrence agrees with the reference within MAX_DIFFERENCE;
- that every tensor and every listed setting is felt: without it (zeros, ones for a norm's weight,
  or the wrong value of `mistakes`) the log-probabilities of the longest case move by at least
  MIN_MISTAKE on average;
- that the function is not chaotic: rounding every activation to bfloat16 moves them by
  MAX_BF16_MEAN on average and MAX_BF16 at most. The reference in bfloat16 is measured too, and
  reported.

What fails a check goes to OUT/rejected, and the exit status is 1. --device none writes the files of
the models that need no PyTorch, and checks the others without writing them. --device cpu runs
flash-linear-attention's recurrent kernels in Triton's interpreter.
"""

import argparse
import datetime
import importlib
import json
import re
import subprocess
import sys
import traceback
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import ModuleType

import numpy as np

from golden_file import LENGTHS, Tensors, case, token_logprobs, write_checkpoint, write_golden
from reference.checkpoint import Checkpoint, make_tensors

MODELS = (
    "decaying_fast_weights",
    "gated_retnet",
    "gated_rfa",
    "hgrn2",
    "linear_attn",
    "mamba",
    "mamba2",
    "mamba2_fla",
    "mamba_fla",
    "retnet",
    "rwkv6",
    "xlstm",
)
MAX_DIFFERENCE = 5e-4
MIN_MISTAKE = 4e-3
MAX_BF16_MEAN = 5e-3
MAX_BF16 = 5e-2
PROCESS_SECONDS = 400


def all_checkpoints() -> dict[str, tuple[ModuleType, Checkpoint]]:
    """Every checkpoint and its model, by name."""
    models = [importlib.import_module(f"reference.{name}") for name in MODELS]
    return {c.name: (model, c) for model in models for c in model.CHECKPOINTS}


def model_type(model: ModuleType) -> str:
    """As config.json says."""
    return model.__name__.removeprefix("reference.").removesuffix("_fla")


def plain_json(value):
    """value as transformers 5 writes it: JSON has no infinity."""
    if isinstance(value, list):
        return [plain_json(item) for item in value]
    return {"__float__": "Infinity"} if value == float("inf") else value


def config_json(model: ModuleType, checkpoint: Checkpoint) -> dict:
    """config.json: the keys that the checkpoint gives; all others have their defaults."""
    architecture = model.SOURCE[1] if model.SOURCE else model.ARCHITECTURE
    return {
        "architectures": [architecture],
        "model_type": model_type(model),
        **{key: plain_json(value) for key, value in checkpoint.config.items()},
        "torch_dtype": checkpoint.dtype,
    }


def log_softmax(logits: np.ndarray) -> np.ndarray:
    """Along the last dimension."""
    high = logits.max(-1, keepdims=True)
    return logits - high - np.log(np.exp(logits - high).sum(-1, keepdims=True))


class Oracle:
    """The float64 recurrence of one checkpoint."""

    def __init__(self, model: ModuleType, checkpoint: Checkpoint, tensors: Tensors) -> None:
        self.model, self.tensors = model, tensors
        self.config = {**model.DEFAULTS, **checkpoint.config}

    def logprobs(self, ids: list[int], rounding: bool = False) -> np.ndarray:
        """Log-probabilities [T, vocab] of the token after each of ids."""
        return log_softmax(self.model.logits(self.config, self.tensors, ids, rounding))

    def without(self, ending: str) -> "Oracle":
        """The same, with the tensors whose names end so made neutral."""
        out = Oracle(self.model, Checkpoint("", 0, "", self.config), dict(self.tensors))
        for name, values in self.tensors.items():
            if name.endswith(ending):
                norm = "norm" in name and ending.endswith("weight") or "gate.weight" in name
                out.tensors[name] = np.ones_like(values) if norm else np.zeros_like(values)
        return out

    def changed(self, key: str, value) -> "Oracle":
        """The same with another setting."""
        config = {**self.config, key: value}
        return Oracle(self.model, Checkpoint("", 0, "", config), self.tensors)


def kinds_of(tensors: Tensors) -> list[str]:
    """The tensors' names without their layer."""
    kinds = {re.sub(r"^\w+\.\w+\.\d+\.", "", name) for name in tensors}
    return sorted(k for k in kinds if "embeddings" not in k and "lm_head" not in k)


def mean_change(a: np.ndarray, b: np.ndarray, ids: list[int]) -> float:
    """Of the tokens' log-probabilities."""
    return float(np.abs(token_logprobs(ids, a) - token_logprobs(ids, b)).mean())


def check_mistakes(oracle: Oracle, checkpoint: Checkpoint, ids: list[int]) -> tuple[dict, list]:
    """Mean change by each mistake, and what is hardly seen."""
    right, changes = oracle.logprobs(ids), {}
    for key, value in checkpoint.mistakes.items():
        wrong = oracle.changed(key, value)
        changes[f"{key} {value}"] = mean_change(wrong.logprobs(ids), right, ids)
    for kind in kinds_of(oracle.tensors):
        changes[f"no {kind}"] = mean_change(oracle.without(kind).logprobs(ids), right, ids)
    changes = {mistake: round(change, 4) for mistake, change in changes.items()}
    return changes, [m for m, change in changes.items() if not change >= MIN_MISTAKE]


def check_rounding(
    oracle: Oracle, prompts: list[list[int]], references: list, halves: list
) -> dict:
    """How far bfloat16 moves the log-probabilities: our rounding, and the reference in it."""
    ours, theirs = [np.zeros(1)], [np.zeros(1)]
    for ids, reference, half in zip(prompts, references, halves, strict=True):
        right = token_logprobs(ids, reference)
        ours.append(np.abs(token_logprobs(ids, oracle.logprobs(ids, rounding=True)) - right))
        if half is not None:
            theirs.append(np.abs(token_logprobs(ids, half) - right))
    out = {}
    for name, parts in {"rounded": ours, "bf16": theirs}.items():
        if len(parts) > 1:
            changes = np.concatenate(parts[1:])
            out[f"{name}_mean_difference"] = float(f"{changes.mean():.2g}")
            out[f"{name}_max_difference"] = float(f"{changes.max():.2g}")
    return out


def bf16_logprobs(reference, model, prompts: list[list[int]], device: str) -> list:
    """The reference in bfloat16, for the report alone: nothing if it cannot."""
    if device != "cuda":
        return [None] * len(prompts)
    try:
        half = model.to(reference.DTYPES["bfloat16"])
        return [reference.logprobs(half, ids, device) for ids in prompts]
    except Exception:
        print("in bfloat16:\n" + traceback.format_exc(), flush=True)
        return [None] * len(prompts)


def run_reference(
    model: ModuleType,
    checkpoint: Checkpoint,
    tensors: Tensors,
    prompts: list[list[int]],
    device: str,
    tune: bool,
) -> tuple[list, list, dict]:
    """The log-probabilities of each prompt in float32 and in bfloat16, and what ran."""
    import torch_reference as reference

    reference.prepare(device, tune)
    module, architecture, config = model.SOURCE
    keys = dict(checkpoint.config)
    is_fla = module.startswith("fla")
    if is_fla and model_type(model) not in ("mamba", "mamba2"):
        # Triton's interpreter cannot run the chunkwise kernels.
        keys["attn_mode"] = "chunk" if device == "cuda" else "fused_recurrent"
    made = reference.build(module, architecture, config, keys, tensors).to(device)
    outputs = [reference.logprobs(made, ids, device) for ids in prompts]
    halves = bf16_logprobs(reference, made, prompts, device)
    package = "flash-linear-attention" if is_fla else "transformers"
    packages = (package, "triton") if is_fla else (package,)
    return outputs, halves, reference.what_ran(f"{package} {architecture}", packages, device)


def write_one(name: str, out: Path, device: str, tune: bool) -> bool:
    """Makes, checks and writes one checkpoint; says whether it is good."""
    model, checkpoint = all_checkpoints()[name]
    tensors = make_tensors(model, checkpoint)
    oracle = Oracle(model, checkpoint, tensors)
    rng = np.random.default_rng(10_000 + checkpoint.seed)
    prompts = [rng.integers(checkpoint.config["vocab_size"], size=n).tolist() for n in LENGTHS]
    references = right = [oracle.logprobs(ids) for ids in prompts]
    halves: list = [None] * len(prompts)
    settings = {
        "reference": f"float64 recurrence, reference/{model_type(model)}.py",
        "numpy": np.__version__,
        "date": datetime.date.today().isoformat(),
    }
    if model.SOURCE and device != "none":
        ran = run_reference(model, checkpoint, tensors, prompts, device, tune)
        references, halves, settings = ran
    worst = max(float(np.abs(a - b).max()) for a, b in zip(references, right, strict=True))
    measured = {"max_difference_from_float64": float(f"{worst:.2g}")} if model.SOURCE else {}
    measured.update(check_rounding(oracle, prompts, right, halves))
    mistakes, unseen = check_mistakes(oracle, checkpoint, prompts[-1])
    size = sum(t.size for t in tensors.values()) * (4 if checkpoint.dtype == "float32" else 2)
    print(f"{name:32} {size // 1024:4} KiB, spread {right[-1].std():.2f}, {measured}", flush=True)
    least = sorted(mistakes.items(), key=lambda item: item[1])[:6]
    print(f"{'':32} least felt {dict(least)}", flush=True)
    problems = [f"hardly seen: {unseen}"] if unseen else []
    if not worst <= MAX_DIFFERENCE:
        problems.append(f"the reference and the recurrence disagree by {worst:.2g}")
    if not (measured["rounded_mean_difference"] <= MAX_BF16_MEAN):
        problems.append("too sensitive to rounding on average")
    if not (measured["rounded_max_difference"] <= MAX_BF16):
        problems.append("too sensitive to rounding at most")
    for problem in problems:
        print(f"REJECTED {name}: {problem}", flush=True)
    if device == "none" and model.SOURCE:
        return not problems
    folder = out / "rejected" / name if problems else out / name
    write_checkpoint(folder, config_json(model, checkpoint), tensors, checkpoint.dtype)
    settings = {**settings, **measured, "mean_change_by_mistake": mistakes}
    write_golden(folder, settings, [case(i, p) for i, p in zip(prompts, references, strict=True)])
    return not problems


def run_process(name: str, out: Path, device: str) -> tuple[str, int, str]:
    """write_one in a process of its own: a crash or a hang stops no other."""
    command = [sys.executable, __file__, "--only", name, "--out", str(out), "--device", device]
    for tuned in ([], ["--tune"]):  # A kernel's first configuration may not fit the device.
        try:
            done = subprocess.run(
                [*command, *tuned],
                capture_output=True,
                text=True,
                timeout=PROCESS_SECONDS,
                check=False,
            )
        except subprocess.TimeoutExpired as error:
            return name, 124, f"{name}: no end after {PROCESS_SECONDS} s\n{error.stdout}"
        output = done.stdout + (done.stderr if done.returncode else "")
        if "OutOfResources" not in output:
            break
    return name, done.returncode, output


def main() -> None:
    """Writes all goldens, or the named ones."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("--out", type=Path, default=Path(__file__).parent)
    parser.add_argument("--only", nargs="*", default=list(all_checkpoints()))
    parser.add_argument("--device", choices=("cuda", "cpu", "none"), default="cuda")
    parser.add_argument("--jobs", type=int, default=8, help="processes at once")
    parser.add_argument("--tune", action="store_true", help="let Triton time its configurations")
    args = parser.parse_args()
    if len(args.only) == 1:
        sys.exit(0 if write_one(args.only[0], args.out, args.device, args.tune) else 1)
    with ThreadPoolExecutor(args.jobs) as pool:
        failures = []
        tasks = [pool.submit(run_process, name, args.out, args.device) for name in args.only]
        for task in tasks:
            name, status, output = task.result()
            print(output.rstrip()[-3000:] if status == 0 else f"{name} failed", flush=True)
            if status:
                failures.append((name, status, output))
    for name, status, output in failures:
        print(f"\n==== {name}: exit status {status}\n{output.rstrip()[-6000:]}", flush=True)
    print(json.dumps({"good": len(args.only) - len(failures), "bad": [f[0] for f in failures]}))
    sys.exit(1 if failures else 0)


if __name__ == "__main__":
    main()
