"""Trains the demo model.

    python3 train.py CORPUS_DIR TOKENIZER_JSON OUT_DIR [options]

Writes OUT_DIR as a Hugging Face directory (bf16) holding the averaged weights that were best on the
validation split, the log of the run as OUT_DIR/train.jsonl, and prints the loss of that checkpoint,
as stored, on the validation and test splits.

The run is a function of its options and of the corpus: data order, initial weights and dropout come
from --seed. (Matrix products on a GPU may still differ in the last bits from one machine to
another.)
"""

import argparse
import json
import math
import shutil
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from tokenizers import Tokenizer
from torch import Tensor

from checkpoint import load_directory, save_directory
from gla import CHUNK, GlaConfig, GlaLanguageModel
from heldout import document_nats, report
from tokens import END_OF_TEXT_ID, Document, encode_split

SPEED_STEPS = (50, 150)
"""Between these steps --seconds measures the speed."""


def windows(
    documents: list[Document], length: int, kjv_share: float, rng: np.random.Generator
) -> Iterator[np.ndarray]:
    """Training windows of `length` + 1 tokens, for ever.

    An epoch is every document once, the King James Bible's chapters each with probability
    `kjv_share`, in random order, each after an end of text; the stream is cut from a random offset.
    """
    while True:
        picked = [d for d in documents if d.source != "kjv" or rng.random() < kjv_share]
        parts = []
        for i in rng.permutation(len(picked)):
            parts += [np.array([END_OF_TEXT_ID], dtype=np.int32), picked[i].ids]
        stream = np.concatenate(parts)[rng.integers(length) :]
        count = (len(stream) - 1) // length
        for i in rng.permutation(count):
            yield stream[i * length : (i + 1) * length + 1]


def batches(
    source: Iterator[np.ndarray], size: int, device: str
) -> Iterator[tuple[Tensor, Tensor]]:
    """(inputs, targets), both [size, length]."""
    while True:
        rows = torch.from_numpy(np.stack([next(source) for _ in range(size)])).long()
        rows = rows.to(device, non_blocking=True)
        yield rows[:, :-1], rows[:, 1:]


def learning_rate(step: int, args: argparse.Namespace) -> float:
    """Linear warm-up, then a cosine to a twentieth."""
    if step < args.warmup:
        return args.lr * (step + 1) / args.warmup
    done = (step - args.warmup) / max(1, args.steps - args.warmup)
    return args.lr * (0.05 + 0.95 * 0.5 * (1 + math.cos(math.pi * done)))


def make_optimizer(model: GlaLanguageModel, args: argparse.Namespace) -> torch.optim.AdamW:
    """AdamW; matrices decay, norms and biases do not. Its rate is a tensor, for CUDA graphs."""
    matrices = [p for p in model.parameters() if p.dim() >= 2]
    vectors = [p for p in model.parameters() if p.dim() < 2]
    groups = [
        {"params": matrices, "weight_decay": args.weight_decay},
        {"params": vectors, "weight_decay": 0.0},
    ]
    gpu = args.device == "cuda"
    rate = torch.tensor(args.lr, device=args.device)
    return torch.optim.AdamW(groups, lr=rate, betas=(0.9, 0.98), fused=gpu, capturable=gpu)


class Step:
    """One step of descent, on a GPU replayed as a CUDA graph: its launches are many and small."""

    WARM_UP = 3

    def __init__(self, model: GlaLanguageModel, args: argparse.Namespace) -> None:
        self.model, self.args = model, args
        self.optimizer = make_optimizer(model, args)
        self.inputs = torch.zeros(args.batch, args.length, dtype=torch.long, device=args.device)
        self.targets = torch.zeros_like(self.inputs)
        self.graph: torch.cuda.CUDAGraph | None = None
        self.stream = torch.cuda.Stream() if args.device == "cuda" else None
        self.steps = 0
        self.loss = torch.zeros((), device=args.device)

    def descend(self) -> Tensor:
        """Forward, backward and update over self.inputs; returns the loss before the update."""
        with torch.autocast(self.args.device, torch.bfloat16):
            logits = self.model(self.inputs)
        loss = F.cross_entropy(logits.float().flatten(0, 1), self.targets.flatten())
        loss.backward()
        torch.nn.utils.clip_grad_norm_(self.model.parameters(), 1.0)
        self.optimizer.step()
        return loss.detach()

    def run(self, inputs: Tensor, targets: Tensor, rate: float) -> Tensor:
        """The loss before this step, valid until the next one."""
        for group in self.optimizer.param_groups:
            group["lr"].fill_(rate)
        self.inputs.copy_(inputs)
        self.targets.copy_(targets)
        self.steps += 1
        if self.graph is not None:
            self.graph.replay()
        elif self.stream is None or self.args.eager or self.steps <= self.WARM_UP:
            self.run_eagerly()
        else:
            self.optimizer.zero_grad(set_to_none=True)
            self.graph = torch.cuda.CUDAGraph()
            with torch.cuda.graph(self.graph, stream=self.stream):
                self.loss = self.descend()
            self.graph.replay()
        return self.loss

    def run_eagerly(self) -> None:
        """The step as it is written, on the stream that will be captured."""
        if self.stream is not None:
            self.stream.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(self.stream):
            self.optimizer.zero_grad(set_to_none=True)
            self.loss = self.descend()
        if self.stream is not None:
            torch.cuda.current_stream().wait_stream(self.stream)


class Average:
    """Exponential moving average of a model's parameters, held by a second model."""

    def __init__(self, model: GlaLanguageModel, decay: float) -> None:
        self.model = GlaLanguageModel(model.config).to(next(model.parameters()).device).eval()
        self.model.load_state_dict(model.state_dict())
        self.decay = decay
        self.pairs = (list(self.model.parameters()), list(model.parameters()))
        self.steps = 0

    @torch.no_grad()
    def update(self) -> None:
        """One step; young averages forget faster."""
        self.steps += 1
        decay = min(self.decay, (1 + self.steps) / (10 + self.steps))
        torch._foreach_lerp_(self.pairs[0], self.pairs[1], 1 - decay)


def validation_loss(
    model: GlaLanguageModel, documents: list[Document], args: argparse.Namespace
) -> float:
    """Nats a token over the validation split, in training's mixed precision."""
    with torch.autocast(args.device, torch.bfloat16):
        nats = document_nats(model, documents, args.device)
    return float(nats.sum()) / sum(len(d.ids) for d in documents)


def seconds_on(device: str) -> float:
    """A clock that has waited for the device."""
    if device == "cuda":
        torch.cuda.synchronize()
    return time.monotonic()


def steps_in_time(now: float, speed_from: float, seconds: float) -> int:
    """How many steps fit, a tenth kept for validation; all times from the start of training."""
    a_step = (now - speed_from) / (SPEED_STEPS[1] - SPEED_STEPS[0])
    return SPEED_STEPS[1] + max(0, int(0.9 * (seconds - now) / a_step))


def train(args: argparse.Namespace, splits: dict[str, list[Document]], vocab_size: int) -> None:
    """The loop; writes args.out whenever the validation loss is the lowest so far."""
    torch.manual_seed(args.seed)
    rng = np.random.default_rng(args.seed)
    config = GlaConfig(
        vocab_size=vocab_size,
        hidden_size=args.hidden,
        num_hidden_layers=args.layers,
        num_heads=args.heads,
        intermediate_size=args.intermediate,
    )
    model = GlaLanguageModel(config, args.dropout).to(args.device)
    average = Average(model, args.average)
    descent = Step(model, args)
    data = batches(
        windows(splits["train"], args.length, args.kjv_share, rng), args.batch, args.device
    )
    print(f"{sum(p.numel() for p in model.parameters()):,} parameters on {args.device}", flush=True)

    log = (args.out / "train.jsonl").open("w", encoding="utf-8")
    start, best, since = seconds_on(args.device), math.inf, torch.zeros((), device=args.device)
    for step in range(args.steps):
        if args.seconds and step == SPEED_STEPS[0]:
            speed_from = seconds_on(args.device) - start
        if args.seconds and step == SPEED_STEPS[1]:
            args.steps = steps_in_time(seconds_on(args.device) - start, speed_from, args.seconds)
            print(f"{args.steps} steps fit {args.seconds:.0f} seconds", flush=True)
        since += descent.run(*next(data), learning_rate(step, args))
        average.update()
        last = step + 1 >= args.steps
        if (step + 1) % args.eval_every and not last:
            continue
        seconds = time.monotonic() - start
        line = {
            "step": step + 1,
            "seconds": round(seconds, 1),
            "train": round(float(since) / ((step % args.eval_every) + 1), 4),
            "valid": round(validation_loss(average.model, splits["valid"], args), 4),
        }
        since.zero_()
        if not math.isfinite(line["train"]):
            raise FloatingPointError(f"the loss is not finite: {line}")
        print(json.dumps(line), flush=True)
        log.write(json.dumps(line) + "\n")
        if line["valid"] < best:
            best = line["valid"]
            save_directory(average.model, args.out)
        if last:
            break
    log.close()


def parse_args() -> argparse.Namespace:
    """The command line; the defaults are the demo model's settings."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("corpus", type=Path)
    parser.add_argument("tokenizer", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--hidden", type=int, default=384)
    parser.add_argument("--layers", type=int, default=6)
    parser.add_argument("--heads", type=int, default=3)
    parser.add_argument("--intermediate", type=int, default=1024)
    parser.add_argument("--steps", type=int, default=4338)
    parser.add_argument("--warmup", type=int, default=200)
    parser.add_argument("--batch", type=int, default=16, help="windows a step")
    parser.add_argument("--length", type=int, default=1024, help="tokens a window")
    parser.add_argument("--lr", type=float, default=2e-3)
    parser.add_argument("--weight-decay", type=float, default=1.0)
    parser.add_argument("--dropout", type=float, default=0.25)
    parser.add_argument(
        "--average", type=float, default=0.998, help="decay of the weights' average"
    )
    parser.add_argument("--kjv-share", type=float, default=0.5, help="of its chapters, an epoch")
    parser.add_argument("--eval-every", type=int, default=400)
    parser.add_argument(
        "--seconds", type=float, help="set --steps from the speed, to train so long"
    )
    parser.add_argument("--eager", action="store_true", help="no CUDA graph")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    args = parser.parse_args()
    if args.seconds:
        args.steps = sys.maxsize
    if args.length % CHUNK:
        parser.error(f"--length must be a multiple of {CHUNK}")
    return args


def main() -> None:
    """Encodes the corpus, trains, and scores the stored checkpoint."""
    args = parse_args()
    torch.backends.cuda.matmul.allow_tf32 = True
    args.out.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(args.tokenizer, args.out / "tokenizer.json")
    tokenizer = Tokenizer.from_file(str(args.tokenizer))
    splits = {
        s: encode_split(tokenizer, args.corpus / f"{s}.jsonl") for s in ("train", "valid", "test")
    }
    train(args, splits, tokenizer.get_vocab_size())

    torch.backends.cuda.matmul.allow_tf32 = False
    stored = load_directory(args.out, args.device)
    for split in ("valid", "test"):
        report(split, splits[split], document_nats(stored, splits[split], args.device))


if __name__ == "__main__":
    main()
