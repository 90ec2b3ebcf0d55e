#!/usr/bin/env python3
"""Trains two small vocabularies and writes what the `tokenizers` package makes of the tokenizer_strings.

    pip install tokenizers==0.23.3
    python3 tests/engine/tokenizer_golden/write_goldens.py

Beside this file it writes
  byte_level.json, llama.json  the two bases; trained anew only if they are not there, since the
                               training text is the documentation of the Python that runs this
  variants.json                what each variant changes in its base
  strings.bin                  u32 count of strings, then u32 bytes, u32 repeats, bytes of each
  hashes.bin                   for each variant, u32 hashes of blocks of 16 strings each
A block's hash is FNV-1a (64 bits, folded to 32) over the numbers and texts that `record` lists;
tests/engine/tokenizer_golden_test.cc computes the same.
"""
import json
import pathlib
import struct

import tokenizer_strings
import tokenizer_variants
from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers

HERE = pathlib.Path(__file__).parent
VOCAB = 2000
BLOCK = 16
MASK = (1 << 64) - 1


def training_text():
    return tokenizer_strings.topics()[:400_000].split("\n") + tokenizer_strings.SENTENCES * 20 + tokenizer_strings.CODE * 20


def train_byte_level():
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    tokenizer.train_from_iterator(training_text(), trainers.BpeTrainer(
        vocab_size=VOCAB, initial_alphabet=alphabet, show_progress=False))
    return json.loads(tokenizer.to_str())


def train_llama():
    tokenizer = Tokenizer(models.BPE(unk_token="<unk>", fuse_unk=True, byte_fallback=True))
    tokenizer.normalizer = normalizers.Sequence(
        [normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
    tokenizer.train_from_iterator(
        [word for line in training_text() for word in line.split()],
        trainers.BpeTrainer(vocab_size=VOCAB - 259, limit_alphabet=160, show_progress=False))
    file = json.loads(tokenizer.to_str())
    first = ["<unk>", "<s>", "</s>"] + [f"<0x{b:02X}>" for b in range(256)]
    trained = sorted(file["model"]["vocab"], key=file["model"]["vocab"].get)
    # Runs of spaces, as the models in use have them.
    runs = [("▁" * n, "▁" * n) for n in (1, 2, 4)]
    trained += [a + b for a, b in runs]
    file["model"]["vocab"] = {t: i for i, t in enumerate(first + trained)}
    file["model"]["merges"] = [f"{a} {b}" for a, b in file["model"]["merges"] + runs]
    file["normalizer"] = None
    return file


def bases():
    result = {}
    for name, train in (("byte_level", train_byte_level), ("llama", train_llama)):
        path = HERE / f"{name}.json"
        if not path.exists():
            path.write_text(json.dumps(train(), ensure_ascii=False, separators=(",", ":")) + "\n")
        result[name] = json.loads(path.read_text())
    return result


def random_ids(seed, vocab):
    """Ids that no text gives, many of them bytes, from splitmix64; the C++ test has the same."""
    state = (seed + 1) * 0x9E3779B97F4A7C15 & MASK

    def draw():
        nonlocal state
        state = state + 0x9E3779B97F4A7C15 & MASK
        z = (state ^ state >> 30) * 0xBF58476D1CE4E5B9 & MASK
        z = (z ^ z >> 27) * 0x94D049BB133111EB & MASK
        return z ^ z >> 31

    result = []
    for _ in range(draw() % 12):
        below = 259 if draw() % 4 else vocab
        result.append(draw() % below)
    return result


class Fnv:
    def __init__(self):
        self.hash = 0xCBF29CE484222325

    def add(self, data):
        for byte in data:
            self.hash = (self.hash ^ byte) * 0x100000001B3 & MASK

    def number(self, n):
        self.add(struct.pack("<I", n))

    def text(self, s):
        data = s.encode()
        self.number(len(data))
        self.add(data)


def record(fnv, tokenizer, index, encoding):
    """What the two sides have to agree on for a string."""
    fnv.number(len(encoding.ids))
    for i in encoding.ids:
        fnv.number(i)
    fnv.text(tokenizer.decode(encoding.ids, skip_special_tokens=True))
    ids = random_ids(index, tokenizer.get_vocab_size())
    fnv.text(tokenizer.decode(ids, skip_special_tokens=False))


def main():
    files = bases()
    texts = tokenizer_strings.all_strings()
    short = tokenizer_strings.strings()
    with open(HERE / "strings.bin", "wb") as out:
        out.write(struct.pack("<I", len(texts)))
        for text, repeats in [(s, 1) for s in short] + tokenizer_strings.RUNS:
            out.write(struct.pack("<II", len(text.encode()), repeats) + text.encode())
    described = {}
    with open(HERE / "hashes.bin", "wb") as out:
        for name, (base, _, _) in tokenizer_variants.VARIANTS.items():
            file = tokenizer_variants.build(name, files)
            described[name] = {"base": base, "model": tokenizer_variants.VARIANTS[name][2],
                               "file": {k: file[k] for k in file if k in tokenizer_variants.VARIANTS[name][1]}}
            tokenizer = Tokenizer.from_str(json.dumps(file))
            encodings = tokenizer.encode_batch(texts, add_special_tokens=True)
            for begin in range(0, len(texts), BLOCK):
                fnv = Fnv()
                for i in range(begin, min(begin + BLOCK, len(texts))):
                    record(fnv, tokenizer, i, encodings[i])
                out.write(struct.pack("<I", (fnv.hash ^ fnv.hash >> 32) & 0xFFFFFFFF))
            print(name, len(texts), flush=True)
    (HERE / "variants.json").write_text(json.dumps(described, ensure_ascii=False, indent=1) + "\n")


if __name__ == "__main__":
    main()
