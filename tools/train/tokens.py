"""The demo model's tokenizer, and the corpus as token ids.

    python3 tokens.py CORPUS_DIR TOKENIZER_JSON [--vocab 4096]

Trains a byte-level BPE (GPT-2's pre-tokeniser) on the training split alone, writes TOKENIZER_JSON,
checks that every document survives encoding and decoding, and prints tokens and bytes of each
split.
"""

import argparse
import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

END_OF_TEXT = "<|endoftext|>"
END_OF_TEXT_ID = 0


@dataclass(frozen=True)
class Document:
    """One document as token ids (without end of text), with the sizes of its text."""

    source: str
    ids: np.ndarray
    bytes: int
    words: int


def read_documents(path: Path) -> list[dict]:
    """The documents of one split, as corpus.py wrote them."""
    with path.open(encoding="utf-8") as lines:
        return [json.loads(line) for line in lines]


def train_tokenizer(texts: list[str], vocab_size: int) -> Tokenizer:
    """Byte-level BPE; end of text is id 0 and both begins and ends documents."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=True)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocab_size,
        special_tokens=[END_OF_TEXT],
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        show_progress=False,
    )
    tokenizer.train_from_iterator(texts, trainer)
    if tokenizer.token_to_id(END_OF_TEXT) != END_OF_TEXT_ID:
        raise AssertionError("end of text must be id 0")
    return tokenizer


def encode_split(tokenizer: Tokenizer, path: Path) -> list[Document]:
    """Encodes one split."""
    out = []
    for document in read_documents(path):
        text = document["text"]
        ids = np.array(tokenizer.encode(text).ids, dtype=np.int32)
        out.append(Document(document["source"], ids, len(text.encode()), len(text.split())))
    return out


def main() -> None:
    """Trains, checks and writes the tokenizer."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("corpus", type=Path)
    parser.add_argument("output", type=Path)
    parser.add_argument("--vocab", type=int, default=4096)
    args = parser.parse_args()

    texts = [d["text"] for d in read_documents(args.corpus / "train.jsonl")]
    tokenizer = train_tokenizer(texts, args.vocab)
    for split in ("train", "valid", "test"):
        documents = read_documents(args.corpus / f"{split}.jsonl")
        ids = [tokenizer.encode(d["text"]).ids for d in documents]
        for document, row in zip(documents, ids, strict=True):
            if tokenizer.decode(row) != document["text"]:
                raise AssertionError(f"{split}: a document does not survive the tokenizer")
        tokens = sum(map(len, ids))
        size = sum(len(d["text"].encode()) for d in documents)
        print(f"{split:5} {tokens:8} tokens, {size / tokens:.3f} bytes a token")
    tokenizer.save(str(args.output))
    print(f"{args.output}: {tokenizer.get_vocab_size()} tokens")


if __name__ == "__main__":
    main()
