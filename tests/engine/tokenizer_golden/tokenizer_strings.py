"""Strings to compare tokenizers on: every script, and what breaks tokenizers."""
import pydoc_data.topics
import random
import textwrap
import unicodedata

NEW_CODE_POINTS = [0x897, 0x1C89, 0xA7CB, 0xA7DA, 0x10D40, 0x10D50, 0x11380, 0x113D1, 0x11BC0,
                   0x11F02, 0x11F50, 0x16100, 0x16D40, 0x1CC00, 0x1CCD6, 0x1E5D0, 0x1E4D0, 0x2EBF0,
                   0x31350, 0x323AF, 0x1F6DC, 0x1FAE9, 0x1D2C0, 0x11240]
SPACES = [" ", " ", " ", "  ", "   ", "\t", "\n", "\n\n", "\r\n", "\r", "\v", "\f", "\x1c", "\x85",
          "\u00a0", "\u1680", "\u180e", "\u2003", "\u200b", "\u2028", "\u2029", "\u202f", "\u3000",
          "\ufeff", "        ", " \n", "\n ", "▁", "▁▁"]
CONTRACTIONS = ["'s", "'t", "'re", "'ve", "'m", "'ll", "'d", "'S", "'T", "'RE", "'Ve", "'LL", "'lL",
                "'\u017f", "’s", "’t", "'", "''", "'x", "'r", "'l", "'st", "'ss"]
EMOJI = ["😀", "👍🏽", "👩‍👩‍👧‍👦", "🏳️‍🌈", "❤️", "🇩🇪", "🇺🇳", "👨🏿‍🚀", "1️⃣", "☺", "🧑‍🤝‍🧑", "⌚️", "🫠", "🪿", "\u200d", "\ufe0f",
         "🏴\U000e0067\U000e0062\U000e0065\U000e006e\U000e0067\U000e007f"]
ADDED = ["<s>", "</s>", "<unk>", "<|endoftext|>", "<|begin_of_text|>", "<left>", "<right>",
         "<both>", "<word>", "<norm>", "<nonorm>", "<é>", "ab", "abc", "  ", "    ", "\n\n",
         "<0x41>", "<0xE2>", "<space >", "<wide\u3000>"]
SENTENCES = [
    "The quick brown fox jumps over the lazy dog.", "Zwölf Boxkämpfer jagen Viktor quer über den Sylter Deich.",
    "Voix ambiguë d'un cœur qui, au zéphyr, préfère les jattes de kiwis.", "El pingüino Wenceslao hizo kilómetros bajo exhaustiva lluvia.",
    "Съешь же ещё этих мягких французских булок, да выпей чаю.", "Ξεσκεπάζω την ψυχοφθόρα βδελυγμία.",
    "色は匂へど散りぬるを我が世誰ぞ常ならむ", "いろはにほへとちりぬるを", "天地玄黃宇宙洪荒日月盈昃辰宿列張", "키스의 고유조건은 입술끼리 만나야 하고 특별한 기술은 필요치 않다.",
    "נקרא בערבית, כל אדם נולד חופשי.", "يولد جميع الناس أحرارا متساوين في الكرامة والحقوق.", "सभी मनुष्यों को गौरव और अधिकारों के मामले में जन्मजात स्वतन्त्रता प्राप्त है।",
    "เป็นมนุษย์สุดประเสริฐเลิศคุณค่า", "Pijamalı hasta yağız şoföre çabucak güvendi.", "Tất cả mọi người sinh ra đều được tự do và bình đẳng.",
]


def topics():
    return "\n".join(pydoc_data.topics.topics[k] for k in sorted(pydoc_data.topics.topics))


def scripts():
    """Assigned characters by the first word of their names, which is the script for letters."""
    groups = {}
    for c in range(0x21, 0x323B0):
        name = unicodedata.name(chr(c), "")
        if name:
            groups.setdefault(name.split(" ")[0].split("-")[0], []).append(chr(c))
    return {k: v for k, v in groups.items() if len(v) >= 8}


def words(rng, letters, count):
    return rng.choice([" ", " ", "-", ", ", "\n"]).join(
        "".join(rng.choices(letters, k=rng.randint(1, 6))) for _ in range(count))


def strings(seed=1):
    rng = random.Random(seed)
    groups = scripts()
    result = ["", " ", "\n", "\0", "a", "▁", "\U0010ffff", "\ufffd", "\ufdd0"]
    for letters in groups.values():
        for _ in range(8):
            text = words(rng, letters, rng.randint(1, 3))
            if rng.random() < 0.4:
                text = rng.choice(["x", "Hello ", "3", "(", "é"]) + text + rng.choice(["1", ".", " the", "'s"])
            result.append(text)
    every = [c for k, v in sorted(groups.items()) if k not in ("CJK", "HANGUL") for c in v]
    rng.shuffle(every)
    result += ["".join(every[i:i + 10]) for i in range(0, len(every), 10)]
    scripts_of_words = ["LATIN", "GREEK", "CYRILLIC", "ARABIC", "HEBREW", "DEVANAGARI", "THAI",
                        "HIRAGANA", "KATAKANA", "CJK", "HANGUL", "MATHEMATICAL", "COMBINING"]
    ascii_text = [chr(c) for c in range(0x20, 0x7F)]
    lines = [l for l in topics().split("\n") if l.strip()]
    for _ in range(2000):
        result.append(rng.choice(lines)[:70])
        result.append("".join(rng.choices(ascii_text, k=rng.randint(1, 24))))
        result.append(" ".join(words(rng, groups[rng.choice(scripts_of_words)], 1) for _ in range(3)))
        result.append("".join(rng.choice(SPACES) + rng.choice(["", "a", "1", "!", "é", "中", "ab c"])
                              for _ in range(rng.randint(1, 6))))
        result.append("".join(rng.choice(["a", " ", "  ", ".", "\n", ""]) + rng.choice(ADDED)
                              for _ in range(rng.randint(1, 4))) + rng.choice(["", " ", "  b", "b"]))
        result.append("".join(rng.choice(["a", "e", "o", "q", "A", "ᄀ", "가", "द", "ぁ", "\u0041\u030a"]) +
                              "".join(rng.choices(groups["COMBINING"] + ["ᅡ", "ᆨ", "\u093c", "\u3099"],
                                                  k=rng.randint(0, 4))) for _ in range(3)))
    for _ in range(800):
        result.append("".join(rng.choice(["I", "you", "L", "été", ""]) + rng.choice(CONTRACTIONS) +
                              rng.choice(["", " ", "x"]) for _ in range(rng.randint(1, 3))))
        result.append("".join(rng.choice(EMOJI + [" ", "a"]) for _ in range(rng.randint(1, 5))))
        result.append("".join(chr(rng.choice([rng.randint(0, 31), rng.randint(127, 159), 65]))
                              for _ in range(rng.randint(1, 8))))
        result.append("".join(rng.choice("0123456789٣१²½Ⅷ一.,-+ ") for _ in range(rng.randint(1, 12))))
        result.append("".join(chr(rng.choice(NEW_CODE_POINTS)) + rng.choice(["", " ", "a", "1"])
                              for _ in range(rng.randint(1, 4))))
        result.append("".join(chr(rng.choice([rng.randint(0xE000, 0x10FFFF), rng.randint(0x80, 0xD7FF)]))
                              for _ in range(rng.randint(1, 5))))
        result.append(rng.choice(SENTENCES)[rng.randint(0, 20):][:40])
        result.append(textwrap.dedent(rng.choice(CODE))[rng.randint(0, 10):][:60])
    return result


CODE = ["for (int i = 0; i < n; ++i) {\n    sum += a[i];\n}", "def f(x):\n\treturn x**2  # square\n",
        "#include <vector>\r\n#define X(a) (a)\r\n", "SELECT * FROM t WHERE id >= 10 AND n != 'x';",
        "{\"a\": [1, 2.5e-3, null], \"b\": \"\\u00e9\"}", "<div class='x'>&nbsp;</div>\n\n\n",
        "std::cout << \"\\t\" << 0xFF << '\\n';", "if x == 1:\n        pass\n    else:\n        y=2",
        "a_b__c.d->e()[0]...$HOME/${x%%.*}", "    \n\t\n  // don't\n"]

# Long runs: (unit, count).
RUNS = [("a", 100000), (" ", 100000), ("\n", 20000), ("ab", 30000), ("é", 20000), ("中", 20000), ("!", 50000),
        ("1", 50000), ("😀", 5000), ("▁", 20000), (" a", 20000), ("'s", 20000), ("\r\n", 10000),
        ("\u0301", 5000), ("a\u0301", 5000), ("<s>", 3000), ("  ", 20001), ("\0", 5000), ("the ", 20000),
        ("\U000e0100", 2000), ("ᄀ", 3000), ("x\n", 10000), ("<left> ", 3000), (" <right>", 3000)]


def all_strings():
    return strings() + [unit * count for unit, count in RUNS]
