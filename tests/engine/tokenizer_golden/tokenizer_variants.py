"""The tokenizers that are compared: two trained vocabularies, and what the files in use put around
them."""
import copy

GPT4 = (r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*"
        r"|\s*[\r\n]+|\s+(?!\S)|\s+")
POSSESSIVE = (r"'(?i:[sdmt]|ll|ve|re)|[^\r\n\p{L}\p{N}]?+\p{L}++|\p{N}{1,3}| ?[^\s\p{L}\p{N}]++[\r\n]*+"
              r"|\s++$|\s*[\r\n]|\s+(?!\S)|\s")
GPT4O = (r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+(?i:'s|'t|'re|'ve|'m|'ll|'d)?"
         r"|[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*(?i:'s|'t|'re|'ve|'m|'ll|'d)?"
         r"|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+")


def byte_level(prefix=False, regex=True):
    return {"type": "ByteLevel", "add_prefix_space": prefix, "trim_offsets": True, "use_regex": regex}


def split(pattern, behavior="Isolated", invert=False, kind="Regex"):
    return {"type": "Split", "pattern": {kind: pattern}, "behavior": behavior, "invert": invert}


def sequence(*steps, key="pretokenizers"):
    return {"type": "Sequence", key: list(steps)}


def metaspace(prepend, split=True):
    return {"type": "Metaspace", "replacement": "▁", "prepend_scheme": prepend, "split": split}


def token(content, special=False, normalized=None, **flags):
    result = {"content": content, "single_word": False, "lstrip": False, "rstrip": False,
              "normalized": not special if normalized is None else normalized, "special": special}
    return {**result, **flags}


def template(name, token_id, after=False):
    special = {"SpecialToken": {"id": name, "type_id": 0}}
    text = {"Sequence": {"id": "A", "type_id": 0}}
    return {"type": "TemplateProcessing", "single": [special, text] + ([special] if after else []),
            "pair": [special, text, {"Sequence": {"id": "B", "type_id": 1}}],
            "special_tokens": {name: {"id": name, "ids": [token_id], "tokens": [name]}}}


def flagged():
    return [token("<left>", lstrip=True), token("<right>", rstrip=True, special=True),
            token("<both>", lstrip=True, rstrip=True, normalized=False), token("<word>", single_word=True),
            token("<norm>", special=True, normalized=True), token("<nonorm>", normalized=False),
            token("<é>"), token("ab", single_word=True), token("abc"), token("  ", normalized=False),
            token("\n\n", rstrip=True), token("<wide\u3000>", special=True),
            token("<space >", normalized=True, lstrip=True)]


PREPEND = sequence({"type": "Prepend", "prepend": "▁"},
                   {"type": "Replace", "pattern": {"String": " "}, "content": "▁"}, key="normalizers")
LLAMA_DECODER = sequence({"type": "Replace", "pattern": {"String": "▁"}, "content": " "},
                         {"type": "ByteFallback"}, {"type": "Fuse"},
                         {"type": "Strip", "content": " ", "start": 1, "stop": 0}, key="decoders")
NFC = {"type": "NFC"}
DEEPSEEK = sequence(split("[\r\n]"), split(r"\s?\p{L}+"), split(r"\s?\p{P}+"), split(r"\s+$"),
                    split("[一-龥ࠀ-一가-퟿]+"), {"type": "Digits", "individual_digits": True},
                    byte_level(regex=False))
EOT = [token("<|endoftext|>", special=True)]
SPECIAL = [token(t, special=True) for t in ("<unk>", "<s>", "</s>")]

# name: (base, keys of the file, keys of its model)
VARIANTS = {
    "gpt2": ("byte_level", {"pre_tokenizer": byte_level(), "added_tokens": EOT,
                            "post_processor": byte_level()}, {}),
    "neox": ("byte_level", {"normalizer": NFC, "pre_tokenizer": byte_level(),
                            "added_tokens": EOT + [token(" " * n) for n in range(2, 9)]}, {}),
    "llama3": ("byte_level", {"pre_tokenizer": sequence(split(GPT4), byte_level(regex=False)),
                              "added_tokens": [token("<|begin_of_text|>", special=True)],
                              "post_processor": sequence(byte_level(), template("<|begin_of_text|>", 2000),
                                                         key="processors")}, {"ignore_merges": True}),
    "prefix": ("byte_level", {"pre_tokenizer": byte_level(prefix=True), "added_tokens": EOT}, {}),
    "starcoder": ("byte_level", {"pre_tokenizer": sequence({"type": "Digits", "individual_digits": True},
                                                           byte_level())}, {}),
    "digits": ("byte_level", {"pre_tokenizer": sequence(byte_level(), {"type": "Digits", "individual_digits": False},
                                                        split("[0-9][0-9][0-9]"))}, {}),
    "deepseek": ("byte_level", {"pre_tokenizer": DEEPSEEK}, {}),
    "possessive": ("byte_level", {"pre_tokenizer": sequence(split(POSSESSIVE), byte_level(regex=False))}, {}),
    "gpt4o": ("byte_level", {"pre_tokenizer": sequence(split(GPT4O), byte_level(regex=False))}, {}),
    "qwen": ("byte_level", {"normalizer": NFC,
                            "pre_tokenizer": sequence(split(GPT4, "Removed", True), byte_level(regex=False)),
                            "post_processor": None}, {}),
    "behaviors": ("byte_level", {"pre_tokenizer": sequence(
        split(r"^\p{L}", "MergedWithPrevious"), split("a", "MergedWithNext", kind="String"),
        split(r"\d", "Contiguous"), split(r"[\S]", "Contiguous", True),
        split("é", "Removed", kind="String"), split(r"\P{L}", "MergedWithNext"), byte_level(regex=False))}, {}),
    "flags": ("byte_level", {"normalizer": NFC, "pre_tokenizer": byte_level(), "added_tokens": EOT + flagged()}, {}),
    "flags_prefix": ("byte_level", {"pre_tokenizer": byte_level(prefix=True), "added_tokens": flagged()}, {}),
    "llama2": ("llama", {"normalizer": PREPEND, "decoder": LLAMA_DECODER, "added_tokens": SPECIAL,
                         "post_processor": template("<s>", 1)}, {}),
    "mistral": ("llama", {"pre_tokenizer": metaspace("first", False), "decoder": LLAMA_DECODER,
                          "added_tokens": SPECIAL, "post_processor": template("<s>", 1, True)}, {}),
    "always": ("llama", {"pre_tokenizer": metaspace("always"), "decoder": metaspace("always"),
                         "added_tokens": SPECIAL}, {"byte_fallback": False}),
    "never": ("llama", {"pre_tokenizer": metaspace("never"), "decoder": metaspace("never")},
              {"byte_fallback": False, "fuse_unk": False}),
    "first": ("llama", {"pre_tokenizer": metaspace("first"), "decoder": metaspace("first"),
                        "added_tokens": SPECIAL + flagged()}, {"ignore_merges": True}),
    "dropped": ("llama", {"pre_tokenizer": sequence(split(r"\s+", "Removed"), metaspace("always")),
                          "decoder": None}, {"byte_fallback": False, "unk_token": None}),
    "llama2_flags": ("llama", {"normalizer": PREPEND, "decoder": LLAMA_DECODER,
                               "added_tokens": SPECIAL + flagged()}, {}),
    "nfc_flags": ("llama", {"normalizer": sequence(NFC, {"type": "Replace", "pattern": {"Regex": r"\s+"},
                                                         "content": "▁"}, key="normalizers"),
                            "decoder": sequence(
                                {"type": "Strip", "content": "▁", "start": 2, "stop": 0}, {"type": "ByteFallback"},
                                {"type": "Fuse"}, {"type": "Replace", "pattern": {"String": "▁"}, "content": " "},
                                key="decoders"),
                            "added_tokens": SPECIAL + flagged()}, {}),
}


def build(variant, bases):
    """The file of a variant, as an object."""
    base, keys, model = VARIANTS[variant]
    result = copy.deepcopy(bases[base])
    result.update(copy.deepcopy(keys))
    result["model"].update(model)
    next_id = len(result["model"]["vocab"])
    for added in result["added_tokens"]:
        known = result["model"]["vocab"].get(added["content"])
        added["id"] = next_id if known is None else known
        next_id += known is None
    return result
