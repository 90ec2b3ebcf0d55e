"""What the writers of goldens share: the files of a checkpoint and of its log-probabilities.

Needs NumPy alone. A golden is a folder with config.json, model.safetensors (or shards of it) and
golden.json:

    {"settings": {what ran, and the differences measured},
     "cases": [{"token_ids": [...],
                "token_logprobs": [null, log p(id_1 | id_0), ...],
                "top_logprobs": [null, [[id, logprob] * 8] of what predicts id_1, ...],
                "next_top_logprobs": [[id, logprob] * 8] after the last token}, ...]}
"""

import json
import math
from pathlib import Path

import numpy as np

LENGTHS = (1, 5, 63, 64, 65, 200)
TOP = 8

Tensors = dict[str, np.ndarray]


def to_bfloat16(values: np.ndarray) -> np.ndarray:
    """The upper halves (uint16) of values as float32, rounded to nearest, ties to even."""
    bits = np.ascontiguousarray(values, dtype=np.float32).view(np.uint32)
    return ((bits + 0x7FFF + ((bits >> 16) & 1)) >> 16).astype(np.uint16)


def encode(values: np.ndarray, dtype: str) -> np.ndarray:
    """values as stored: dtype is float32, float16 or bfloat16."""
    if dtype == "bfloat16":
        return to_bfloat16(values)
    return np.ascontiguousarray(values, dtype={"float32": "<f4", "float16": "<f2"}[dtype])


def round_to(values: np.ndarray, dtype: str) -> np.ndarray:
    """The float64 values that dtype can hold nearest to values."""
    stored = encode(values, dtype)
    if dtype == "bfloat16":
        stored = (stored.astype(np.uint32) << 16).view(np.float32)
    return stored.astype(np.float64)


def write_safetensors(path: Path, tensors: Tensors, dtype: str) -> None:
    """One file in the safetensors format: the header's length, the header, the data."""
    kind = {"float32": "F32", "float16": "F16", "bfloat16": "BF16"}[dtype]
    header: dict = {"__metadata__": {"format": "pt"}}
    blobs, offset = [], 0
    for name, values in tensors.items():
        blobs.append(encode(values, dtype).tobytes())
        end = offset + len(blobs[-1])
        header[name] = {"dtype": kind, "shape": list(values.shape), "data_offsets": [offset, end]}
        offset = end
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    path.write_bytes(len(text).to_bytes(8, "little") + text + b"".join(blobs))


def write_checkpoint(
    folder: Path, config: dict, tensors: Tensors, dtype: str, shards: int = 1
) -> None:
    """config.json and model.safetensors, or shards of whole tensors with their index."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "config.json").write_text(json.dumps(config, indent=2) + "\n", encoding="utf-8")
    if shards == 1:
        write_safetensors(folder / "model.safetensors", tensors, dtype)
        return
    names = list(tensors)
    per_shard = -(-len(names) // shards)
    where: dict[str, str] = {}
    for shard in range(shards):
        file = f"model-{shard + 1:05}-of-{shards:05}.safetensors"
        part = {n: tensors[n] for n in names[shard * per_shard : (shard + 1) * per_shard]}
        write_safetensors(folder / file, part, dtype)
        where.update(dict.fromkeys(part, file))
    size = 4 if dtype == "float32" else 2
    total = size * sum(math.prod(t.shape) for t in tensors.values())
    index = {"metadata": {"total_size": total}, "weight_map": where}
    text = json.dumps(index, indent=1, sort_keys=True) + "\n"
    (folder / "model.safetensors.index.json").write_text(text, encoding="utf-8")


def top(logprobs: np.ndarray) -> list[list]:
    """The TOP most probable tokens of one distribution, as [id, logprob]."""
    ids = np.argsort(-logprobs, kind="stable")[:TOP]
    return [[int(i), round(float(logprobs[i]), 6)] for i in ids]


def token_logprobs(ids: list[int], logprobs: np.ndarray) -> np.ndarray:
    """log p of each token but the first; logprobs [T, vocab] predict the token after each."""
    return logprobs[np.arange(len(ids) - 1), np.array(ids[1:], dtype=np.int64)]


def case(ids: list[int], logprobs: np.ndarray) -> dict:
    """One entry of golden.json."""
    tokens = [round(float(p), 6) for p in token_logprobs(ids, logprobs)]
    return {
        "token_ids": ids,
        "token_logprobs": [None, *tokens],
        "top_logprobs": [None, *(top(logprobs[i - 1]) for i in range(1, len(ids)))],
        "next_top_logprobs": top(logprobs[-1]),
    }


def write_golden(folder: Path, settings: dict, cases: list[dict]) -> None:
    """golden.json."""
    content = {"settings": settings, "cases": cases}
    text = json.dumps(content, separators=(",", ":")) + "\n"
    (folder / "golden.json").write_text(text, encoding="utf-8")
