"""Held-out loss of a model directory, by this folder's model and by flash-linear-attention's.

    python3 heldout.py MODEL_DIR CORPUS_DIR [--split test] [--fla] [--device cuda]

Every document begins with end of text and is scored to its end, whatever its length; the first
token is predicted from end of text. Prints nats and perplexity a token, bits a byte and perplexity
a word, in all and for each source. --fla (needs a GPU) prints the same with GLAForCausalLM loaded
from MODEL_DIR, in float32 and in bf16.
"""

import argparse
import json
import math
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from tokenizers import Tokenizer
from torch import Tensor

from checkpoint import load_directory
from gla import CHUNK
from tokens import END_OF_TEXT_ID, Document, encode_split

BATCH_TOKENS = 32768


@dataclass(frozen=True)
class Loss:
    """Total negative log-likelihood (nats) of some documents and their sizes."""

    nats: float
    tokens: int
    words: int
    bytes: int

    def line(self) -> str:
        """One line of figures."""
        return (
            f"{self.nats / self.tokens:.4f} nats a token, "
            f"perplexity {self.per_token():.2f} a token, "
            f"{math.exp(self.nats / self.words):.1f} a word, "
            f"{self.nats / self.bytes / math.log(2):.4f} bits a byte ({self.tokens} tokens)"
        )

    def per_token(self) -> float:
        """Perplexity a token."""
        return math.exp(self.nats / self.tokens)


def by_source(documents: list[Document], nats: np.ndarray) -> dict[str, Loss]:
    """Sums the loss of each document by source; "all" is the whole split."""
    out = {}
    for source in ("all", "austen", "melville", "kjv"):
        rows = [i for i, d in enumerate(documents) if source in ("all", d.source)]
        picked = [documents[i] for i in rows]
        out[source] = Loss(
            nats=float(sum(nats[i] for i in rows)),
            tokens=sum(len(d.ids) for d in picked),
            words=sum(d.words for d in picked),
            bytes=sum(d.bytes for d in picked),
        )
    return out


@torch.no_grad()
def document_nats(
    forward: Callable[[Tensor], Tensor], documents: list[Document], device: str
) -> np.ndarray:
    """Each document's loss in nats. `forward` maps ids [B, T] to logits [B, T, vocab]."""
    order = sorted(range(len(documents)), key=lambda i: len(documents[i].ids))
    nats = np.zeros(len(documents))
    while order:
        length = -(-len(documents[order[-1]].ids) // CHUNK) * CHUNK
        rows = [order.pop() for _ in range(min(len(order), max(1, BATCH_TOKENS // length)))]
        inputs = torch.full((len(rows), length), END_OF_TEXT_ID, dtype=torch.long)
        targets = torch.full((len(rows), length), -1, dtype=torch.long)
        for r, i in enumerate(rows):
            ids = torch.from_numpy(documents[i].ids).long()
            inputs[r, 1 : len(ids)] = ids[:-1]
            targets[r, : len(ids)] = ids
        logits = forward(inputs.to(device)).float()
        loss = F.cross_entropy(
            logits.transpose(1, 2), targets.to(device), ignore_index=-1, reduction="none"
        )
        nats[rows] = loss.double().sum(1).cpu().numpy()
    return nats


def use_first_configurations() -> None:
    """Makes Triton take each kernel's first configuration instead of timing all of them.

    Tuning flash-linear-attention for a model takes many minutes and changes only speed and
    rounding.
    """
    from triton.runtime.autotuner import Autotuner

    prune = Autotuner.prune_configs
    Autotuner.prune_configs = lambda self, kwargs: prune(self, kwargs)[:1]


def load_fla(path: Path, dtype: torch.dtype) -> Callable[[Tensor], Tensor]:
    """flash-linear-attention's model over MODEL_DIR's tensors, on the GPU."""
    from fla.models import GLAConfig, GLAForCausalLM
    from safetensors.torch import load_file

    config = GLAConfig(**json.loads((path / "config.json").read_text(encoding="utf-8")))
    model = GLAForCausalLM(config)
    missing, unexpected = model.load_state_dict(load_file(path / "model.safetensors"), strict=False)
    if unexpected or set(missing) - {"lm_head.weight"}:
        raise ValueError(f"missing {missing}, unexpected {unexpected}")
    model.lm_head.weight = model.model.embeddings.weight
    model = model.to("cuda", dtype).eval()
    return lambda ids: model(input_ids=ids, use_cache=False, logits_to_keep=0).logits


def report(name: str, documents: list[Document], nats: np.ndarray) -> dict[str, dict]:
    """Prints the losses by source and returns them as plain data."""
    losses = by_source(documents, nats)
    for source, loss in losses.items():
        print(f"{name:24} {source:9} {loss.line()}", flush=True)
    return {source: vars(loss) for source, loss in losses.items()}


def main() -> None:
    """Scores a model directory on one split."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("model", type=Path)
    parser.add_argument("corpus", type=Path)
    parser.add_argument("--split", default="test", choices=("train", "valid", "test"))
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--fla", action="store_true")
    parser.add_argument("--json", type=Path, help="also write the figures here")
    args = parser.parse_args()

    tokenizer = Tokenizer.from_file(str(args.model / "tokenizer.json"))
    documents = encode_split(tokenizer, args.corpus / f"{args.split}.jsonl")
    model = load_directory(args.model, args.device)
    figures = {
        "plain, float32": report(
            "plain, float32", documents, document_nats(model, documents, args.device)
        )
    }
    if args.fla:
        use_first_configurations()
        for dtype in (torch.float32, torch.bfloat16):
            name = f"fla, {str(dtype).removeprefix('torch.')}"
            nats = document_nats(load_fla(args.model, dtype), documents, args.device)
            figures[name] = report(name, documents, nats)
    if args.json:
        args.json.write_text(json.dumps(figures, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
