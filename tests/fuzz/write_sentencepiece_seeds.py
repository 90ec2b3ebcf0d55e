#!/usr/bin/env python3
"""Writes tests/fuzz/corpus/sentencepiece: small models of SentencePiece, with a few rules each.

    pip install sentencepiece==0.2.3
    python3 tests/fuzz/write_sentencepiece_seeds.py
"""
import io
import pathlib
import tempfile

import sentencepiece

SEEDS = pathlib.Path(__file__).parent / "corpus" / "sentencepiece"
TEXT = ["the quick brown fox jumps over the lazy dog", "色は匂へど散りぬるを", "the end of the other thing", "été 😀 x"]
# From and to, as code points in hexadecimal: two letters to three, a ligature to two, a space to none.
RULES = "61 62\t61 62 63\nFB01\t66 69\n3000\t20\nAD\t\n"


def main():
    SEEDS.mkdir(parents=True, exist_ok=True)
    with tempfile.NamedTemporaryFile("w", suffix=".tsv") as rules:
        rules.write(RULES)
        rules.flush()
        for name, options in {
                "bpe": {"model_type": "bpe", "vocab_size": 320, "byte_fallback": True,
                        "normalization_rule_name": "identity", "remove_extra_whitespaces": False},
                "bpe_rules": {"model_type": "bpe", "vocab_size": 80, "normalization_rule_tsv": rules.name},
                "unigram_rules": {"model_type": "unigram", "vocab_size": 70, "normalization_rule_tsv": rules.name,
                                  "user_defined_symbols": ["<left>", "the"]}}.items():
            model = io.BytesIO()
            sentencepiece.SentencePieceTrainer.train(
                sentence_iterator=iter(TEXT * 3), model_writer=model, hard_vocab_limit=False, minloglevel=2,
                num_threads=1, **options)
            (SEEDS / f"{name}.model").write_bytes(model.getvalue())


if __name__ == "__main__":
    main()
