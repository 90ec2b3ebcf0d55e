"""Compares our tokenizer with the `sentencepiece` package, on models that it trains here: BPE and unigram,
with and without byte fallback, with several normalizers and spellings of spaces.

Around the package's ids stands what Hugging Face's LlamaTokenizer puts there: bos in front, special tokens
cut out of the text first, and each part between them taken as a text of its own.
"""
import io
import json
import pathlib
import random
import re
import sys

import pytest
import sentencepiece

sys.path.insert(0, str(pathlib.Path(__file__).parent))
sys.path.insert(0, str(pathlib.Path(__file__).parent / "tokenizer_golden"))
import tokenizer_strings  # noqa: E402
from tokenizer_parity_test import ask  # noqa: E402

RUNS = [("a", 20000), (" ", 5000), ("\n", 2000), ("中", 3000), ("😀", 2000), ("▁", 3000), (" a", 5000),
        ("e\u0301", 2000), ("the ", 5000), ("ab", 5000), ("\u3000", 500), ("ﷺ", 500)]
SPECIAL = re.compile("(<unk>|<s>|</s>)")

# As Llama's and Mistral's models, and what else the trainer can make.
LLAMA = {"byte_fallback": True, "normalization_rule_name": "identity", "remove_extra_whitespaces": False,
         "allow_whitespace_only_pieces": True, "split_digits": True}
MODELS = {
    "llama_bpe": {"model_type": "bpe", **LLAMA},
    "llama_unigram": {"model_type": "unigram", **LLAMA},
    "bpe_nfkc": {"model_type": "bpe", "normalization_rule_name": "nmt_nfkc"},
    "unigram_nfkc": {"model_type": "unigram", "normalization_rule_name": "nmt_nfkc"},
    "unigram_folded": {"model_type": "unigram", "normalization_rule_name": "nfkc_cf", "byte_fallback": True,
                       "user_defined_symbols": ["<left>", "ab", "abc", "  ", "▁▁▁", "中文"]},
    "bpe_own_symbols": {"model_type": "bpe", "byte_fallback": True, "normalization_rule_name": "nfkc",
                        "remove_extra_whitespaces": False, "control_symbols": ["<control>"],
                        "user_defined_symbols": ["<left>", "ab", "abc", "  ", "▁▁▁", "中文", "\n\n"]},
    "bpe_suffix": {"model_type": "bpe", "treat_whitespace_as_suffix": True},
    "unigram_without_prefix": {"model_type": "unigram", "add_dummy_prefix": False, "split_by_whitespace": False,
                               **LLAMA},
}


def train(options):
    rng = random.Random(1)
    lines = [line for line in tokenizer_strings.topics().split("\n") if line.strip()][:1500]
    lines += tokenizer_strings.SENTENCES * 5 + rng.sample(tokenizer_strings.strings(1), 500)
    lines = [line.replace("\0", " ") for line in lines if line.strip("\0 ▁")]
    model = io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(lines), model_writer=model, vocab_size=1200, hard_vocab_limit=False,
        character_coverage=0.98, num_threads=1, minloglevel=2, **options)
    return model.getvalue()


def encode(processor, text):
    """The ids that the package gives to what is between the special tokens."""
    ids = [processor.bos_id()]
    for part in SPECIAL.split(text):
        ids += [processor.piece_to_id(part)] if SPECIAL.fullmatch(part) else processor.encode(part)
    return ids


def draw_texts(seed, count):
    rng = random.Random(seed)
    texts = rng.sample(tokenizer_strings.strings(seed), count)
    texts += ["a<s>b", " <s> a </s>  b<unk>", "<s>", "</s></s>", "<unk>x", "  ", "<control>", "<left>a", "ababc"]
    return texts + [unit * times for unit, times in RUNS]


def as_likely(processor, one, other):
    """Whether two cuts of a text have the same pieces in another order: their scores have the same
    sum but for rounding, and which of them wins depends on the order of the additions."""
    return isinstance(other, list) and sorted(one) == sorted(other) and (
        processor.decode(one) == processor.decode(other))


@pytest.mark.parametrize("name", MODELS)
def test_gives_what_the_package_gives(request, tmp_path, name):
    seed = random.randrange(1 << 32)
    print(f"seed {seed}")
    rng = random.Random(seed)
    model = train(MODELS[name])
    (tmp_path / "tokenizer.model").write_bytes(model)
    processor = sentencepiece.SentencePieceProcessor(model_proto=model)
    texts = draw_texts(seed, 2000)
    encoded = [encode(processor, text) for text in texts]
    size = processor.get_piece_size()
    ids = encoded + [[rng.randrange(rng.choice([min(size, 270), size])) for _ in range(rng.randint(0, 12))]
                     for _ in range(2000)]
    skipped = {0, processor.bos_id(), processor.eos_id(), processor.piece_to_id("<control>")}
    decoded = [processor.decode([i for i in sequence if i not in skipped]) for sequence in ids]
    driver = pathlib.Path(request.config.getoption("--build")) / "tests" / "tokenizer_parity_driver"
    answers = ask(driver, tmp_path, [("e", text) for text in texts] + [("d", i) for i in ids] +
                  [("s", i) for i in ids] + [("e", b"ab\xff"), ("d", [size])])
    expected = encoded + decoded + decoded
    wrong = [(a, e, g) for a, e, g in zip(texts + ids + ids, expected, answers)
             if e != g and not (isinstance(a, str) and as_likely(processor, e, g))]
    assert not wrong, f"{len(wrong)} of {len(expected)} differ, first: {str(wrong[0])[:900]}"
    assert answers[-2].startswith("error: the text is not valid UTF-8 at byte 2")
    assert answers[-1].startswith(f"error: the token id {size} is not in the vocabulary")


def test_puts_around_what_the_configuration_says(request, tmp_path):
    model = train(MODELS["llama_bpe"])
    processor = sentencepiece.SentencePieceProcessor(model_proto=model)
    size = processor.get_piece_size()
    (tmp_path / "tokenizer.model").write_bytes(model)
    (tmp_path / "tokenizer_config.json").write_text(json.dumps({
        "add_bos_token": False, "add_eos_token": True, "tokenizer_class": "LlamaTokenizer", "legacy": False,
        "eos_token": {"content": "<|end|>", "__type": "AddedToken"},
        "added_tokens_decoder": {str(size): {"content": "<|end|>", "special": True},
                                 str(size + 2): {"content": "<tool>", "special": False}}}))
    driver = pathlib.Path(request.config.getoption("--build")) / "tests" / "tokenizer_parity_driver"
    answers = ask(driver, tmp_path, [("e", "the<tool>the<|end|> the"), ("d", [size, size + 2, size]),
                                     ("d", [size + 1])])
    # Without legacy, a part behind a special token has no space of its own: what the package puts in front of
    # a text whose first character is a line break, which no piece joins with others, is then not there.
    bare = processor.encode("\nthe")[2:]
    spaced = processor.encode("the")
    assert processor.encode("\n") == processor.encode("\nthe")[:2] and bare != spaced
    assert answers[0] == spaced + [size + 2] + bare + [size] + spaced + [size]
    assert answers[1] == "<tool>"
    assert answers[2].startswith("error: the token id")


if __name__ == "__main__":
    sys.exit(pytest.main([__file__, *sys.argv[1:]]))
