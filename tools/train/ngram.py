"""The baseline: an interpolated modified Kneser-Ney n-gram model on the demo model's own tokens.

    python3 ngram.py CORPUS_DIR TOKENIZER_JSON [--order 5] [--split test] [--train-source austen
    ...]

Trains on the training split (all of it), scores a held-out split exactly as heldout.py does: every
token of every document, the first ones from the start of the document. Discounts are Chen and
Goodman's (1999) three a level, from the counts of counts; the unigram level is interpolated with
the uniform.
"""

import argparse
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from tokenizers import Tokenizer

from heldout import report
from tokens import END_OF_TEXT_ID, Document, encode_split

BITS = 12
"""Bits of a token id in a packed n-gram: five ids of up to 4,096 fit a signed 64-bit key."""


def packed(documents: list[Document], order: int) -> np.ndarray:
    """The `order`-grams ending at each token of the documents, as integers in text order.

    The last token has the lowest bits. Documents begin with order - 1 ends of text.
    """
    out = []
    pad = np.full(order - 1, END_OF_TEXT_ID, dtype=np.int64)
    for document in documents:
        ids = np.concatenate([pad, document.ids.astype(np.int64)])
        key = np.zeros(len(document.ids), dtype=np.int64)
        for i in range(order):
            key = (key << BITS) | ids[i : i + len(document.ids)]
        out.append(key)
    return np.concatenate(out)


def suffix(keys: np.ndarray, order: int) -> np.ndarray:
    """The last `order` tokens of packed n-grams."""
    return keys & ((1 << (BITS * order)) - 1)


def find(sorted_keys: np.ndarray, keys: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(positions, found) of keys in sorted_keys; a position is valid where found."""
    at = np.minimum(np.searchsorted(sorted_keys, keys), len(sorted_keys) - 1)
    return at, sorted_keys[at] == keys


@dataclass(frozen=True)
class Level:
    """One order: its n-grams with discounted counts, and what each of its contexts needs."""

    keys: np.ndarray
    discounted: np.ndarray
    contexts: np.ndarray
    totals: np.ndarray
    backoff: np.ndarray


def make_level(keys: np.ndarray, counts: np.ndarray) -> Level:
    """Discounts the counts of sorted, distinct n-grams and sums them up by context."""
    n1, n2, n3, n4 = (int((counts == i).sum()) for i in (1, 2, 3, 4))
    y = n1 / (n1 + 2 * n2)
    discounts = np.array([0.0, 1 - 2 * y * n2 / n1, 2 - 3 * y * n3 / n2, 3 - 4 * y * n4 / n3])
    taken = discounts[np.minimum(counts, 3)]
    contexts, start = np.unique(keys >> BITS, return_index=True)
    totals = np.add.reduceat(counts, start)
    return Level(keys, counts - taken, contexts, totals, np.add.reduceat(taken, start) / totals)


class KneserNey:
    """p(w | h) = discounted(h w) / total(h) + backoff(h) p(w | h without its first token)."""

    def __init__(self, documents: list[Document], order: int, vocab_size: int) -> None:
        if order * BITS > 63 or vocab_size > 1 << BITS:
            raise ValueError("n-grams do not fit 64 bits")
        self.order, self.vocab_size = order, vocab_size
        self.levels: list[Level] = []
        keys, counts = np.unique(packed(documents, order), return_counts=True)
        for n in range(order, 0, -1):
            self.levels.insert(0, make_level(keys, counts))
            # Below the highest order a count is the number of distinct tokens seen before the
            # n-gram.
            keys, counts = np.unique(suffix(keys, n - 1), return_counts=True)

    def probabilities(self, documents: list[Document]) -> np.ndarray:
        """p of each token of the documents, in text order."""
        grams = packed(documents, self.order)
        p = np.full(len(grams), 1.0 / self.vocab_size)
        for n, level in enumerate(self.levels, start=1):
            keys = suffix(grams, n)
            context, known = find(level.contexts, keys >> BITS)
            gram, seen = find(level.keys, keys)
            here = np.where(seen, level.discounted[gram], 0.0) / level.totals[context]
            p = np.where(known, here + level.backoff[context] * p, p)
        return p


def main() -> None:
    """Trains and scores."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("corpus", type=Path)
    parser.add_argument("tokenizer", type=Path)
    parser.add_argument("--order", type=int, default=5)
    parser.add_argument("--split", default="test", choices=("valid", "test"))
    parser.add_argument("--train-source", action="append", help="train on these sources only")
    args = parser.parse_args()

    tokenizer = Tokenizer.from_file(str(args.tokenizer))
    training = encode_split(tokenizer, args.corpus / "train.jsonl")
    if args.train_source:
        training = [d for d in training if d.source in args.train_source]
    model = KneserNey(training, args.order, tokenizer.get_vocab_size())
    documents = encode_split(tokenizer, args.corpus / f"{args.split}.jsonl")
    logs = -np.log(model.probabilities(documents))
    ends = np.cumsum([len(d.ids) for d in documents])
    report(
        f"{args.order}-gram",
        documents,
        np.array([part.sum() for part in np.split(logs, ends[:-1])]),
    )


if __name__ == "__main__":
    main()
