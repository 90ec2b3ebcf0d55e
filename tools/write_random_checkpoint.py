#!/usr/bin/env python3
"""Writes a GLA checkpoint whose weights are RANDOM, as a Hugging Face directory in bfloat16.

It holds config.json, model.safetensors (or shards with their index) and a byte-level tokenizer.json.
A model of this kind generates noise: it is for measuring speed and memory at the shape of a real
model, never for the quality of an answer. The default shape is that of GLA-1.3B, 2.7 GB.
"""
import argparse
import json
import math
import pathlib
import struct
import sys
import time

import numpy as np

# One block of random numbers is read round and round. Its length is a prime, so that rows of any
# matrix fall on other places of it each time and no two of them are the same.
BLOCK_ELEMENTS = 4194301
HEADER_ALIGNMENT = 8


def parse_arguments():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("directory", type=pathlib.Path, help="made if it is not there; must be empty")
    parser.add_argument("--hidden-size", type=int, default=2048)
    parser.add_argument("--layers", type=int, default=24)
    parser.add_argument("--heads", type=int, default=4)
    parser.add_argument("--kv-heads", type=int, help="default: as many as heads")
    parser.add_argument("--expand-k", type=float, default=0.5)
    parser.add_argument("--expand-v", type=float, default=1.0)
    parser.add_argument("--hidden-ratio", type=int, default=4)
    parser.add_argument("--vocab-size", type=int, default=32000)
    parser.add_argument("--short-conv", action="store_true", help="convolutions of 4 taps on q, k, v")
    parser.add_argument("--tie-embeddings", action="store_true")
    parser.add_argument("--shard-gb", type=float, default=5.0,
                        help="largest file in units of 10^9 bytes (default: %(default)s)")
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    arguments.kv_heads = arguments.kv_heads or arguments.heads
    if arguments.vocab_size < 259:
        parser.error("--vocab-size must be at least 259: 256 bytes and 3 special tokens")
    if arguments.heads % arguments.kv_heads:
        parser.error("--kv-heads must divide --heads")
    for name in ("expand_k", "expand_v"):
        if (arguments.hidden_size * getattr(arguments, name)) % arguments.heads:
            parser.error(f"hidden size times {name} must be a multiple of --heads")
    return arguments


def intermediate_size(arguments):
    """The formula of flash-linear-attention's GatedMLP."""
    return 256 * math.ceil(int(arguments.hidden_size * arguments.hidden_ratio * 2 / 3) / 256)


def list_tensors(arguments):
    """Names, shapes and kinds ('one', 'matrix', 'into_residual') in the order in which they are saved."""
    hidden, inner = arguments.hidden_size, intermediate_size(arguments)
    key = round(hidden * arguments.expand_k)
    value = round(hidden * arguments.expand_v)
    kv_key = key // arguments.heads * arguments.kv_heads
    kv_value = value // arguments.heads * arguments.kv_heads
    tensors = [("model.embeddings.weight", (arguments.vocab_size, hidden), "matrix")]
    for layer in range(arguments.layers):
        of_layer = [
            ("attn_norm.weight", (hidden,), "one"),
            ("attn.q_proj.weight", (key, hidden), "matrix"),
            ("attn.k_proj.weight", (kv_key, hidden), "matrix"),
            ("attn.v_proj.weight", (kv_value, hidden), "matrix"),
            ("attn.g_proj.weight", (value, hidden), "matrix"),
            ("attn.gk_proj.0.weight", (16, hidden), "matrix"),
            ("attn.gk_proj.1.weight", (kv_key, 16), "matrix"),
            ("attn.gk_proj.1.bias", (kv_key,), "matrix"),
            ("attn.o_proj.weight", (hidden, value), "into_residual"),
            ("attn.g_norm_swish_gate.weight", (value // arguments.heads,), "one"),
            ("mlp_norm.weight", (hidden,), "one"),
            ("mlp.gate_proj.weight", (inner, hidden), "matrix"),
            ("mlp.up_proj.weight", (inner, hidden), "matrix"),
            ("mlp.down_proj.weight", (hidden, inner), "into_residual"),
        ]
        if arguments.short_conv:
            of_layer += [(f"attn.{name}_conv1d.weight", (channels, 1, 4), "tap")
                         for name, channels in (("q", key), ("k", kv_key), ("v", kv_value))]
        tensors += [(f"model.layers.{layer}.{name}", shape, kind) for name, shape, kind in of_layer]
    tensors.append(("model.norm.weight", (hidden,), "one"))
    if not arguments.tie_embeddings:
        tensors.append(("lm_head.weight", (arguments.vocab_size, hidden), "matrix"))
    return tensors


def to_bfloat16(values):
    """The bits of float32 values rounded to the nearest bfloat16, ties to even."""
    bits = values.astype(np.float32).view(np.uint32)
    return ((bits + 0x7FFF + ((bits >> 16) & 1)) >> 16).astype("<u2")


def make_blocks(arguments):
    """One block a kind of tensor: the scales with which such models are initialised."""
    normal = np.random.default_rng(arguments.seed).standard_normal(BLOCK_ELEMENTS, dtype=np.float32)
    scales = {
        "matrix": 0.02,
        # Two residual branches a layer: the sum over all of them keeps the size of one.
        "into_residual": 0.02 / math.sqrt(2 * arguments.layers),
        "tap": 0.5,
    }
    blocks = {kind: to_bfloat16(normal * np.float32(scale)) for kind, scale in scales.items()}
    blocks["one"] = np.full(BLOCK_ELEMENTS, 0x3F80, dtype="<u2")
    return blocks


def write_elements(file, block, position, count):
    """Writes `count` numbers of the block from `position` on, round and round."""
    while count > 0:
        part = block[position:position + count]
        file.write(part.data)
        count -= len(part)
        position = 0


def write_safetensors(path, tensors, blocks, positions):
    header, end = {"__metadata__": {"format": "pt"}}, 0
    for name, shape, _ in tensors:
        begin, end = end, end + 2 * math.prod(shape)
        header[name] = {"dtype": "BF16", "shape": list(shape), "data_offsets": [begin, end]}
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % HEADER_ALIGNMENT)
    with open(path, "wb") as file:
        file.write(struct.pack("<Q", len(text)) + text)
        for name, shape, kind in tensors:
            write_elements(file, blocks[kind], positions[name], math.prod(shape))


def split_into_shards(tensors, limit_bytes):
    shards, room = [[]], limit_bytes
    for tensor in tensors:
        size = 2 * math.prod(tensor[1])
        if shards[-1] and size > room:
            shards.append([])
            room = limit_bytes
        shards[-1].append(tensor)
        room -= size
    return shards


def write_weights(arguments):
    """Writes all tensors and returns their bytes."""
    tensors = list_tensors(arguments)
    blocks = make_blocks(arguments)
    places = np.random.default_rng(arguments.seed + 1).integers(BLOCK_ELEMENTS, size=len(tensors))
    positions = {tensor[0]: int(place) for tensor, place in zip(tensors, places)}
    total = sum(2 * math.prod(shape) for _, shape, _ in tensors)
    shards = split_into_shards(tensors, int(arguments.shard_gb * 1e9))
    if len(shards) == 1:
        write_safetensors(arguments.directory / "model.safetensors", tensors, blocks, positions)
        return total
    weight_map = {}
    for number, shard in enumerate(shards, start=1):
        name = f"model-{number:05}-of-{len(shards):05}.safetensors"
        write_safetensors(arguments.directory / name, shard, blocks, positions)
        weight_map.update({tensor[0]: name for tensor in shard})
    write_json(arguments.directory / "model.safetensors.index.json",
               {"metadata": {"total_size": total}, "weight_map": weight_map})
    return total


def byte_characters():
    """The printable character that stands for each byte in byte-level vocabularies, as in GPT-2:
    bytes that are printable in Latin-1 stand for themselves, the others follow from U+0100 on."""
    printable = {*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)}
    others = iter(range(0x100, 0x200))
    return [chr(byte if byte in printable else next(others)) for byte in range(256)]


def tokenizer():
    specials = ["<unk>", "<s>", "</s>"]
    vocab = {token: index for index, token in enumerate(specials + byte_characters())}
    byte_level = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True,
                  "use_regex": True}
    return {
        "version": "1.0",
        "truncation": None,
        "padding": None,
        "added_tokens": [
            {"id": vocab[token], "content": token, "single_word": False, "lstrip": False,
             "rstrip": False, "normalized": False, "special": True} for token in specials],
        "normalizer": None,
        "pre_tokenizer": byte_level,
        "post_processor": None,
        "decoder": byte_level,
        "model": {"type": "BPE", "dropout": None, "unk_token": None,
                  "continuing_subword_prefix": None, "end_of_word_suffix": None,
                  "fuse_unk": False, "byte_fallback": False, "ignore_merges": False,
                  "vocab": vocab, "merges": []},
    }


def config(arguments):
    return {
        "architectures": ["GLAForCausalLM"],
        "model_type": "gla",
        "hidden_size": arguments.hidden_size,
        "num_hidden_layers": arguments.layers,
        "num_heads": arguments.heads,
        "num_kv_heads": arguments.kv_heads,
        "expand_k": arguments.expand_k,
        "expand_v": arguments.expand_v,
        "hidden_ratio": arguments.hidden_ratio,
        "intermediate_size": None,
        "vocab_size": arguments.vocab_size,
        "use_short_conv": arguments.short_conv,
        "conv_size": 4,
        "use_output_gate": True,
        "hidden_act": "swish",
        "elementwise_affine": True,
        "norm_eps": 1e-6,
        "fuse_norm": True,
        "tie_word_embeddings": arguments.tie_embeddings,
        "bos_token_id": 1,
        "eos_token_id": 2,
        "torch_dtype": "bfloat16",
    }


def write_json(path, value):
    path.write_text(json.dumps(value, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")


def main():
    arguments = parse_arguments()
    start = time.monotonic()
    arguments.directory.mkdir(parents=True, exist_ok=True)
    if any(arguments.directory.iterdir()):
        sys.exit(f"error: {arguments.directory} is not empty")
    total = write_weights(arguments)
    write_json(arguments.directory / "config.json", config(arguments))
    write_json(arguments.directory / "tokenizer.json", tokenizer())
    print(f"{arguments.directory}: {total / 2e6:.0f} M random parameters, {total / 1e9:.2f} GB, "
          f"{time.monotonic() - start:.1f} s")


if __name__ == "__main__":
    main()
