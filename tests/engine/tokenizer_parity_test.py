#!/usr/bin/env python3
"""Compares our tokenizer with the `tokenizers` package on strings drawn anew.

    pip install tokenizers==0.23.3
    python3 tests/engine/tokenizer_parity_test.py --driver build/tests/tokenizer_parity_driver

Every variant of tokenizer_golden/tokenizer_variants.py, or `--file` with any tokenizer.json. Ids of each
string, and the text of the string's ids and of random ids, must be the same. pytest runs it on a
sample of the strings of a random seed, which the output names.
"""
import argparse
import json
import pathlib
import random
import struct
import subprocess
import sys
import tempfile

sys.path.insert(0, str(pathlib.Path(__file__).parent / "tokenizer_golden"))
import tokenizer_strings
import pytest  # noqa: E402
import tokenizer_variants
from tokenizers import Tokenizer  # noqa: E402

GOLDEN = pathlib.Path(__file__).parent / "tokenizer_golden"


def ask(driver, path, requests):
    """The driver's answers to ('e', text or bytes), ('d', ids) and ('s', ids), in order."""
    sent = bytearray()
    for kind, what in requests:
        if isinstance(what, str):
            what = what.encode()
        data = what if kind == "e" else struct.pack(f"<{len(what)}I", *what)
        sent += kind.encode() + struct.pack("<I", len(data) if kind == "e" else len(what)) + data
    done = subprocess.run([driver, path], input=bytes(sent), stdout=subprocess.PIPE, check=True)
    got, at, answers = done.stdout, 0, []
    for kind, _ in requests:
        failed, size = struct.unpack_from("<II", got, at)
        at += 8
        length = size * 4 if kind == "e" and not failed else size
        data = got[at:at + length]
        at += length
        if failed:
            answers.append("error: " + data.decode())
        else:
            answers.append(list(struct.unpack(f"<{size}I", data)) if kind == "e" else data.decode())
    return answers


def compare(name, file, texts, rng, driver):
    reference = Tokenizer.from_str(json.dumps(file))
    encoded = [e.ids for e in reference.encode_batch(texts, add_special_tokens=True)]
    vocab = reference.get_vocab_size()
    ids = encoded + [[rng.randrange(rng.choice([259, vocab])) for _ in range(rng.randint(0, 12))]
                     for _ in range(len(texts) // 2)]
    decoded = [reference.decode(i, skip_special_tokens=True) for i in ids]
    with tempfile.NamedTemporaryFile("w", suffix=".json") as saved:
        json.dump(file, saved)
        saved.flush()
        answers = ask(driver, saved.name, [("e", t) for t in texts] + [("d", i) for i in ids])
    wrong = 0
    for asked, expected, answer in zip(texts + ids, encoded + decoded, answers):
        if expected == answer:
            continue
        wrong += 1
        if wrong <= 5:
            print(f"{name}: of {asked[:80]!r}\n  expected {expected[:200]!r}\n  got      {answer[:200]!r}")
    print(f"{name}: {len(texts)} strings, {len(ids)} id sequences, {wrong} differ", flush=True)
    return wrong


def bases():
    return {b: json.loads((GOLDEN / f"{b}.json").read_text()) for b in ("byte_level", "llama")}


@pytest.mark.parametrize("variant", tokenizer_variants.VARIANTS)
def test_gives_what_the_package_gives(request, variant):
    seed = random.randrange(1 << 32)
    print(f"--seed {seed} --only {variant}")
    rng = random.Random(seed)
    texts = rng.sample(tokenizer_strings.strings(seed), 1500)
    driver = pathlib.Path(request.config.getoption("--build")) / "tests" / "tokenizer_parity_driver"
    assert compare(variant, tokenizer_variants.build(variant, bases()), texts, rng, driver) == 0


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--driver", required=True)
    parser.add_argument("--seed", type=int, default=random.randrange(1 << 32))
    parser.add_argument("--strings", type=int, default=4000, help="of each tokenizer; 0 for all")
    parser.add_argument("--only", help="one variant")
    parser.add_argument("--file", help="a tokenizer.json to compare instead of the variants")
    arguments = parser.parse_args()
    print(f"--seed {arguments.seed}")
    rng = random.Random(arguments.seed)
    texts = tokenizer_strings.strings(arguments.seed)
    if arguments.strings:
        texts = rng.sample(texts, min(arguments.strings, len(texts)))
    else:
        texts += [unit * count for unit, count in tokenizer_strings.RUNS]
    if arguments.file:
        files = {arguments.file: json.loads(pathlib.Path(arguments.file).read_text())}
    else:
        files = {n: tokenizer_variants.build(n, bases()) for n in tokenizer_variants.VARIANTS
                 if arguments.only in (None, n)}
    wrong = sum(compare(n, f, texts, rng, arguments.driver) for n, f in files.items())
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
