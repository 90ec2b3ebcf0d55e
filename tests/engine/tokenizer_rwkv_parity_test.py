"""Compares our tokenizer with a reference of RWKV's that is written down here: of a vocabulary in the
form of rwkv_vocab_v20230424.txt, each time the longest token that the text goes on with.

The reference tries lengths one by one, from the longest token's down; ours walks a trie. A vocabulary is
drawn from the strings themselves, so that it has tokens of every script, of parts of characters and of runs.
"""
import ast
import json
import pathlib
import random
import sys

import pytest

sys.path.insert(0, str(pathlib.Path(__file__).parent))
sys.path.insert(0, str(pathlib.Path(__file__).parent / "tokenizer_golden"))
import tokenizer_strings  # noqa: E402
from tokenizer_parity_test import ask  # noqa: E402

RUNS = [(" ", 3000), ("\n", 3000), ("中", 3000), ("😀", 2000), ("a", 5000), ("\0", 2000), ("ab", 3000)]
END_OF_TEXT = "<|rwkv_tokenizer_end_of_text|>"


def draw_vocabulary(rng, texts, count):
    """The lines of a vocabulary: all bytes, then pieces of the texts, whole characters or not."""
    tokens = {bytes([byte]) for byte in range(256)}
    tokens |= {b" " * n for n in range(2, 65)} | {b"\n" * n for n in range(2, 9)} | {b"\xe4\xb8", b"\xf0\x9f\x98"}
    while len(tokens) < count:
        text = rng.choice(texts)
        if not text:
            continue
        begin = rng.randrange(len(text))
        piece = text[begin:begin + rng.randint(1, 8)].encode()
        if rng.random() < 0.2:
            piece = piece[rng.randrange(len(piece)):][:rng.randint(1, 12)]
        tokens.add(piece)
    ordered = sorted(tokens, key=lambda token: (len(token), token))
    lines = []
    for index, token in enumerate(ordered, start=1):
        try:
            literal = token.decode()
        except UnicodeDecodeError:
            literal = token
        lines.append(f"{index} {literal!r} {len(token)}\n")
    return lines


def read_vocabulary(lines):
    vocabulary = {}
    for line in lines:
        index, rest = line.split(" ", 1)
        literal, size = rest.rsplit(" ", 1)
        token = ast.literal_eval(literal)
        token = token.encode() if isinstance(token, str) else token
        assert len(token) == int(size)
        vocabulary[token] = int(index)
    return vocabulary


def encode(vocabulary, longest, text):
    data, at, ids = text.encode(), 0, []
    while at < len(data):
        size = next(n for n in range(min(longest, len(data) - at), 0, -1) if data[at:at + n] in vocabulary)
        ids.append(vocabulary[data[at:at + size]])
        at += size
    return ids


def compare(build, folder, lines, texts, rng):
    driver = pathlib.Path(build) / "tests" / "tokenizer_parity_driver"
    (folder / "rwkv_vocab_v20230424.txt").write_text("".join(lines), encoding="utf-8", newline="\n")
    (folder / "tokenizer_config.json").write_text(json.dumps({
        "tokenizer_class": "RwkvTokenizer", "bos_token": END_OF_TEXT, "eos_token": "\n\n",
        "added_tokens_decoder": {"0": {"content": END_OF_TEXT, "special": True}}}))
    vocabulary = read_vocabulary(lines)
    longest = max(map(len, vocabulary))
    tokens = {index: token for token, index in vocabulary.items()} | {0: b""}
    encoded = [encode(vocabulary, longest, text) for text in texts]
    known = sorted(tokens)
    ids = [[rng.choice(known[:rng.choice([257, len(known)])]) for _ in range(rng.randint(0, 12))]
           for _ in range(len(texts) // 2)]
    decoded = [b"".join(tokens[i] for i in sequence).decode(errors="replace") for sequence in encoded + ids]
    marked = [END_OF_TEXT.join(texts[i:i + 3]) for i in range(0, 300, 3)]
    answers = ask(driver, folder, [("e", text) for text in texts] + [("d", i) for i in encoded + ids] +
                  [("s", i) for i in encoded + ids] + [("e", text) for text in marked] +
                  [("e", b"ab\xff"), ("e", b"\xed\xa0\x80"), ("d", [len(known) + 100])])
    marked_ids = [a + [0] + b + [0] + c for a, b, c in zip(encoded[:300:3], encoded[1:300:3], encoded[2:300:3])]
    expected = encoded + decoded + decoded + marked_ids
    asked = texts + (encoded + ids) * 2 + marked
    wrong = [(a, e, g) for a, e, g in zip(asked, expected, answers) if e != g]
    assert not wrong, f"{len(wrong)} of {len(expected)} differ, first: {str(wrong[0])[:600]}"
    assert answers[-3:] == ["error: the text is not valid UTF-8 at byte 2", "error: the text is not valid UTF-8 at byte 0",
                            f"error: the token id {len(known) + 100} is not in the vocabulary of "
                            f"{known[-1] + 1} ids"]


def draw_texts(rng, seed, count):
    texts = rng.sample(tokenizer_strings.strings(seed), count)
    return texts + [unit * times for unit, times in RUNS]


def test_takes_the_longest_token_each_time(request, tmp_path):
    seed = random.randrange(1 << 32)
    print(f"seed {seed}")
    rng = random.Random(seed)
    texts = draw_texts(rng, seed, 4000)
    compare(request.config.getoption("--build"), tmp_path, draw_vocabulary(rng, texts, 3000), texts, rng)


if __name__ == "__main__":
    sys.exit(pytest.main([__file__, *sys.argv[1:]]))
