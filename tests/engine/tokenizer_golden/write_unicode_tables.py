#!/usr/bin/env python3
"""Writes engine/tokenizer/unicode_tables.cc from what the `tokenizers` package does.

The package's parts stand on different versions of Unicode (its regular expressions on 16, its
normalizer on an older one), and PCRE2 on a third. So the tables are not taken from the standard:
each is asked of the package itself, code point by code point.

    pip install tokenizers==0.23.3
    python3 tests/engine/tokenizer_golden/write_unicode_tables.py > engine/tokenizer/unicode_tables.cc

Python's own `unicodedata` (version 14 in Python 3.11) stands for PCRE2 10.42, which has the same
version; run it with Python 3.11.
"""
import unicodedata

from tokenizers import AddedToken, Regex, Tokenizer, models, normalizers, pre_tokenizers

CODE_POINTS = [c for c in range(0x110000) if not 0xD800 <= c < 0xE000]
BLOCK = 8192
CATEGORIES = ("Lu Ll Lt Lm Lo Nd Nl No Pc Pd Ps Pe Pi Pf Po Sm Sc Sk So Zs Zl Zp "
              "L M N P S Z").split()


def ranges(code_points):
    result = []
    for c in sorted(code_points):
        if result and result[-1][1] == c - 1:
            result[-1][1] = c
        else:
            result.append([c, c])
    return result


def matched(pattern):
    """The code points that `pattern` matches in the package."""
    split = pre_tokenizers.Split(Regex(pattern), "removed", invert=True)
    found = set()
    for i in range(0, len(CODE_POINTS), BLOCK):
        block = CODE_POINTS[i:i + BLOCK]
        for _, (begin, end) in split.pre_tokenize_str("".join(map(chr, block))):
            found.update(block[begin:end])
    return found


def word():
    tokenizer = Tokenizer(models.BPE(vocab={"x": 0}, merges=[]))
    tokenizer.add_tokens([AddedToken("<q>", single_word=True, normalized=False)])
    token = tokenizer.token_to_id("<q>")
    return {c for c in CODE_POINTS if token not in tokenizer.encode("<q>" + chr(c)).ids}


def numeric():
    digits = pre_tokenizers.Digits()
    return {c for c in CODE_POINTS if len(digits.pre_tokenize_str("x" + chr(c))) == 2}


def decompositions(nfd):
    """Single steps (composed, first, second), second 0 when there is none. Hangul is arithmetic."""
    result = []
    for c in CODE_POINTS:
        step = unicodedata.decomposition(chr(c))
        if not step or step.startswith("<") or nfd.normalize_str(chr(c)) == chr(c):
            continue
        parts = [int(p, 16) for p in step.split()]
        result.append((c, parts[0], parts[1] if len(parts) > 1 else 0))
    return result


def combining_classes(nfd):
    """Code points whose class is not 0 and which the package does reorder."""
    low, high = "\u0334", "\u0345"  # classes 1 and 240, the lowest and the highest
    result = {}
    for c in CODE_POINTS:
        ccc = unicodedata.combining(chr(c))
        if ccc == 0:
            continue
        pair = (chr(c) + low) if ccc > 1 else (high + chr(c))
        if nfd.normalize_str("a" + pair) == unicodedata.normalize("NFD", "a" + pair) or \
                unicodedata.normalize("NFD", chr(c)) != chr(c):
            result[c] = ccc
    return result


def emit(name, type_name, rows):
    print(f"const {type_name} {name}Rows[] = {{")
    for i in range(0, len(rows), 4):
        print("    " + ", ".join("{" + ", ".join(row) + "}" for row in rows[i:i + 4]) + ",")
    print("};\n")


def hexes(*numbers):
    return [f"0x{n:X}" for n in numbers]


def main():
    nfd, nfc = normalizers.NFD(), normalizers.NFC()
    python = {}
    for c in CODE_POINTS:
        category = unicodedata.category(chr(c))
        python.setdefault(category, set()).add(c)
        python.setdefault(category[0], set()).add(c)
    additions = []
    for category in CATEGORIES:
        package = matched(r"\p{%s}" % category)
        assert python[category] <= package, category
        additions += [[f'"{category}"', *hexes(*r)] for r in ranges(package - python[category])]
    steps = decompositions(nfd)
    pairs = [s for s in steps if s[2] and nfc.normalize_str(chr(s[1]) + chr(s[2])) == chr(s[0])]
    classes = combining_classes(nfd)
    runs = []
    for c, ccc in sorted(classes.items()):
        if runs and runs[-1][1] == c - 1 and runs[-1][2] == ccc:
            runs[-1][1] = c
        else:
            runs.append([c, c, ccc])

    print("// Written by tests/engine/tokenizer_golden/write_unicode_tables.py; not edited by hand.")
    print('#include "engine/tokenizer/unicode_tables.h"\n\nnamespace sluice {\nnamespace {\n')
    emit("kWord", "CodePointRange", [hexes(*r) for r in ranges(word())])
    emit("kNumeric", "CodePointRange", [hexes(*r) for r in ranges(numeric())])
    emit("kAdded", "CategoryAddition", additions)
    emit("kDecomposition", "Decomposition", [hexes(*s) for s in steps])
    emit("kComposition", "Decomposition",
         [hexes(*s) for s in sorted(pairs, key=lambda s: (s[1], s[2]))])
    emit("kCombining", "CombiningRange", [[*hexes(r[0], r[1]), str(r[2])] for r in runs])
    print("}  // namespace\n")
    for name, type_name in [("kWord", "CodePointRange"), ("kNumeric", "CodePointRange"),
                            ("kAdded", "CategoryAddition"), ("kDecomposition", "Decomposition"),
                            ("kComposition", "Decomposition"), ("kCombining", "CombiningRange")]:
        print(f"const absl::Span<const {type_name}> {name} = {name}Rows;")
    print("\n}  // namespace sluice")


if __name__ == "__main__":
    main()
