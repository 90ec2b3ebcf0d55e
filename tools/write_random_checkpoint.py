#!/usr/bin/env python3
"""Writes a checkpoint of any supported family whose weights are RANDOM, as a Hugging Face directory.

    tools/write_random_checkpoint.py DIRECTORY [--model NAME] [--size SIZE] [--set KEY=VALUE ...]

It holds config.json, model.safetensors in bfloat16 (or shards with their index) and a byte-level
tokenizer.json. A model of this kind generates noise: it is for measuring speed and memory at the
shape of a real model, never for the quality of an answer. The sizes are the published ones of
random_checkpoint_sizes.py; --set changes or adds keys of config.json. What tensors such a model has
is asked of the `sluice` program, so build that first. The default is GLA-1.3B, 2.7 GB.
"""
import argparse
import json
import math
import pathlib
import re
import struct
import subprocess
import sys
import time

import numpy as np
from random_checkpoint_sizes import SIZES

ROOT = pathlib.Path(__file__).resolve().parent.parent
# One block of random numbers is read round and round. Its length is a prime, so that rows of any
# matrix fall on other places of it each time and no two of them are the same.
BLOCK_ELEMENTS = 4194301
HEADER_ALIGNMENT = 8

# How a tensor is initialised, by the first pattern that its name matches: (mean, deviation), or a
# range to draw from evenly. Decays come out as in trained models: slow, of many lengths.
KINDS = (
    (r"A_log$", "range", (0.0, 2.7)),
    (r"dt_(proj\.)?bias$", "range", (-6.9, -2.2)),
    (r"mixer\.D$", "normal", (1.0, 0.0)),
    (r"norm(_mlstm|_ffn|_f)?\.weight$|norm_swish_gate\.weight$", "normal", (1.0, 0.0)),
    (r"conv1d\.weight$", "normal", (0.0, 0.5)),
    (r"(\.mu|x_bias)$", "range", (0.0, 1.0)),
    (r"w_proj\.linear\.lora\.2\.bias$", "range", (-6.0, -1.0)),
    (r"(fgate_preact|g_proj|a_proj|b_proj)\.bias$", "range", (3.0, 6.0)),
    (r"bonus$", "normal", (0.0, 0.5)),
    (r"random_features$", "normal", (0.0, 1.0)),
    (r"bias$", "normal", (0.0, 0.02)),
    (r"(o_proj|down_proj|out_proj|proj_down|ffn\.value)\.weight$", "into_residual", (0.0, 0.02)),
    (r"", "normal", (0.0, 0.02)),
)


def parse_arguments():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("directory", type=pathlib.Path, help="made if it is not there; must be empty")
    parser.add_argument("--model", choices=sorted(SIZES), default="gla")
    parser.add_argument("--size", default="1.3B", help="demo, 340M, 1.3B, 2.7B or 7B, where it exists")
    parser.add_argument("--set", metavar="KEY=VALUE", action="append", default=[],
                        help="a key of config.json and its value as JSON")
    parser.add_argument("--sluice", type=pathlib.Path, default=ROOT / "build/client/sluice")
    parser.add_argument("--shard-gb", type=float, default=5.0,
                        help="largest file in units of 10^9 bytes (default: %(default)s)")
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    sizes = SIZES[arguments.model]
    if arguments.size not in sizes:
        parser.error(f"--size of {arguments.model} must be one of {', '.join(sizes)}")
    arguments.config = dict(sizes[arguments.size])
    for item in arguments.set:
        key, separator, value = item.partition("=")
        if not separator:
            parser.error(f"--set {item}: write KEY=VALUE")
        try:
            arguments.config[key] = json.loads(value)
        except json.JSONDecodeError:
            parser.error(f"--set {item}: the value is no JSON")
    return arguments


def kind_of(name):
    return next(index for index, (pattern, _, _) in enumerate(KINDS) if re.search(pattern, name))


def list_tensors(arguments):
    """Names, shapes and kinds of all tensors of the model that config.json in the directory names."""
    try:
        said = subprocess.run(
            [arguments.sluice, "model", "--local", arguments.directory, "--device=cpu", "--json"],
            capture_output=True, text=True, check=False)
    except OSError as error:
        sys.exit(f"error: {error}; build it with tools/build, or give --sluice")
    if said.returncode != 0:
        sys.exit(f"error: {said.stderr.strip()}")
    model = json.loads(said.stdout)
    if model["vocab_size"] < 259:
        sys.exit("error: vocab_size must be at least 259: 256 bytes and 3 special tokens")
    arguments.layers = model["num_layers"]
    return [(name, tuple(shape), kind_of(name)) for name, shape in model["tensors"].items()]


def to_bfloat16(values):
    """The bits of float32 values rounded to the nearest bfloat16, ties to even."""
    bits = values.astype(np.float32).view(np.uint32)
    return ((bits + 0x7FFF + ((bits >> 16) & 1)) >> 16).astype("<u2")


def make_blocks(arguments):
    """One block a kind of tensor."""
    generator = np.random.default_rng(arguments.seed)
    normal = generator.standard_normal(BLOCK_ELEMENTS, dtype=np.float32)
    even = generator.random(BLOCK_ELEMENTS, dtype=np.float32)
    blocks = []
    for _, kind, (first, second) in KINDS:
        if kind == "range":
            values = first + even * np.float32(second - first)
        else:
            # Two residual branches a layer: the sum over all of them keeps the size of one.
            smaller = math.sqrt(2 * arguments.layers) if kind == "into_residual" else 1
            values = first + normal * np.float32(second / smaller)
        blocks.append(to_bfloat16(values))
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
    """Writes all tensors of the config.json that is there, and returns their bytes."""
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


def write_json(path, value):
    path.write_text(json.dumps(value, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")


def main():
    arguments = parse_arguments()
    start = time.monotonic()
    arguments.directory.mkdir(parents=True, exist_ok=True)
    if any(arguments.directory.iterdir()):
        sys.exit(f"error: {arguments.directory} is not empty")
    write_json(arguments.directory / "config.json",
               {**arguments.config, "torch_dtype": "bfloat16"})
    try:
        total = write_weights(arguments)
    except SystemExit:
        (arguments.directory / "config.json").unlink()  # so that it can be tried again
        raise
    write_json(arguments.directory / "tokenizer.json", tokenizer())
    print(f"{arguments.directory}: {total / 2e6:.0f} M random parameters, {total / 1e9:.2f} GB, "
          f"{time.monotonic() - start:.1f} s")


if __name__ == "__main__":
    main()
