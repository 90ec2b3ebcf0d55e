"""Writes the goldens: tiny GLA models and their log-probabilities by flash-linear-attention.

    python3 write_goldens.py [--out DIR] [--only NAME ...]

Needs a GPU, PyTorch, safetensors and flash-linear-attention. For each entry of GOLDENS it writes
OUT/NAME/config.json, the weights (random, from a fixed seed) as safetensors, and golden.json, which
golden_file.py describes.

The reference is GLAForCausalLM in float32 over the stored weights, with TF32 off everywhere; it
runs its recurrent kernels up to 64 tokens and its chunkwise ones above. Before anything is written,
the script checks
- that a plain float64 recurrence (Oracle, below) agrees with it within MAX_ORACLE_DIFFERENCE;
- that a wrong model would be seen: each mistake of MISTAKES that touches the checkpoint's settings
  moves the log-probabilities of the longest case by at least MIN_MISTAKE on average;
- that the function is not chaotic: flash-linear-attention in bf16 stays within MAX_BF16_MEAN on
  average and MAX_BF16 at most.
"""

import argparse
import math
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import torch_reference as reference  # Before anything that imports Triton.

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from golden_file import LENGTHS, case, token_logprobs, write_checkpoint, write_golden

MAX_ORACLE_DIFFERENCE = 5e-4
MIN_MISTAKE = 0.01
MAX_BF16_MEAN = 5e-3
MAX_BF16 = 5e-2

DEFAULTS = {
    "expand_k": 0.5,
    "expand_v": 1.0,
    "hidden_ratio": 4,
    "intermediate_size": None,
    "num_kv_heads": None,
    "feature_map": None,
    "attn_mode": "chunk",
    "attn": None,
    "use_short_conv": False,
    "conv_size": 4,
    "use_output_gate": True,
    "clamp_min": None,
    "hidden_act": "swish",
    "max_position_embeddings": 2048,
    "elementwise_affine": True,
    "norm_eps": 1e-6,
    "use_gk": True,
    "use_gv": False,
    "fuse_norm": True,
    "fuse_swiglu": True,
    "tie_word_embeddings": False,
    "initializer_range": 0.02,
    "use_cache": True,
    "bos_token_id": 1,
    "eos_token_id": 2,
}


@dataclass(frozen=True)
class Golden:
    """One checkpoint: its settings, storage type and seed."""

    name: str
    seed: int
    dtype: torch.dtype
    sizes: dict
    settings: dict = field(default_factory=dict)
    shards: int = 1
    write_defaults: bool = True

    def config(self) -> dict:
        """Every key of the model's configuration."""
        return {**DEFAULTS, **self.sizes, **self.settings}

    def config_json(self) -> dict:
        """config.json: with or without the keys that have their default."""
        written = self.config() if self.write_defaults else {**self.sizes, **self.settings}
        head = {"architectures": ["GLAForCausalLM"], "model_type": "gla"}
        return {**head, **written, "torch_dtype": str(self.dtype).removeprefix("torch.")}


def sizes(vocab: int, hidden: int, layers: int, heads: int) -> dict:
    """The keys that every configuration gives."""
    return {
        "vocab_size": vocab,
        "hidden_size": hidden,
        "num_hidden_layers": layers,
        "num_heads": heads,
    }


GOLDENS = (
    # Every default of GLAConfig, by absence of the key.
    Golden("defaults_fp32", 1, torch.float32, sizes(256, 32, 2, 1), write_defaults=False),
    # Key/value heads shared by groups of two, relu features, K = 16 and V = 32, two shards.
    Golden(
        "grouped_relu_bf16",
        2,
        torch.bfloat16,
        sizes(256, 64, 3, 4),
        {
            "num_kv_heads": 2,
            "feature_map": "relu",
            "expand_k": 1.0,
            "expand_v": 2.0,
            "intermediate_size": 112,
        },
        shards=2,
    ),
    # Short convolution of four taps, the default MLP size.
    Golden(
        "conv4_fp16",
        3,
        torch.float16,
        sizes(300, 64, 2, 2),
        {"use_short_conv": True, "conv_size": 4, "norm_eps": 1e-5},
    ),
    # One key/value head for all, swish features after a convolution of three taps, a felt epsilon.
    Golden(
        "conv3_multiquery_swish_fp32",
        4,
        torch.float32,
        sizes(256, 32, 2, 2),
        {
            "use_short_conv": True,
            "conv_size": 3,
            "num_kv_heads": 1,
            "feature_map": "swish",
            "expand_k": 1.0,
            "expand_v": 2.0,
            "norm_eps": 1e-2,
            "intermediate_size": 80,
            "tie_word_embeddings": True,
        },
    ),
    # No output gate (g_norm without g_proj), clamped gates, no norm weight.
    Golden(
        "clamp_ungated_bf16",
        5,
        torch.bfloat16,
        sizes(512, 64, 2, 2),
        {
            "use_output_gate": False,
            "clamp_min": -0.15,
            "elementwise_affine": False,
            "intermediate_size": 96,
            "hidden_ratio": None,
        },
    ),
    # fuse_norm false: g_norm beside g_proj instead of g_norm_swish_gate.
    Golden(
        "unfused_fp32",
        6,
        torch.float32,
        sizes(256, 32, 2, 2),
        {
            "fuse_norm": False,
            "fuse_swiglu": False,
            "expand_k": 1.0,
            "intermediate_size": 64,
            "norm_eps": 1e-5,
        },
    ),
    # Wide heads (K = 64, V = 128), clamp and convolution together, no norm weight, tied.
    Golden(
        "wide_heads_fp16",
        7,
        torch.float16,
        sizes(256, 64, 2, 1),
        {
            "expand_k": 1.0,
            "expand_v": 2.0,
            "clamp_min": -0.15,
            "use_short_conv": True,
            "elementwise_affine": False,
            "intermediate_size": 112,
            "tie_word_embeddings": True,
        },
    ),
)


def intermediate_size(config: dict) -> int:
    """The MLP's width: given, or two thirds of hidden_ratio * hidden rounded up to 256."""
    if config["intermediate_size"] is not None:
        return config["intermediate_size"]
    width = int(config["hidden_size"] * (config["hidden_ratio"] or 4) * 2 / 3)
    return 256 * ((width + 255) // 256)


def has_fused_gate(config: dict) -> bool:
    """Whether the per-head norm is stored as g_norm_swish_gate rather than g_norm."""
    return config["fuse_norm"] and config["use_output_gate"]


def shapes(config: dict) -> dict[str, tuple[int, ...]]:
    """Names and shapes of the tensors of a checkpoint."""
    hidden = config["hidden_size"]
    key, value = round(hidden * config["expand_k"]), round(hidden * config["expand_v"])
    groups = config["num_heads"] // (config["num_kv_heads"] or config["num_heads"])
    mlp = intermediate_size(config)
    out = {"model.embeddings.weight": (config["vocab_size"], hidden)}
    for layer in range(config["num_hidden_layers"]):
        p = f"model.layers.{layer}."
        out[p + "attn_norm.weight"] = (hidden,)
        out[p + "attn.q_proj.weight"] = (key, hidden)
        out[p + "attn.k_proj.weight"] = (key // groups, hidden)
        out[p + "attn.v_proj.weight"] = (value // groups, hidden)
        if config["use_output_gate"]:
            out[p + "attn.g_proj.weight"] = (value, hidden)
        if config["use_short_conv"]:
            out[p + "attn.q_conv1d.weight"] = (key, 1, config["conv_size"])
            out[p + "attn.k_conv1d.weight"] = (key // groups, 1, config["conv_size"])
            out[p + "attn.v_conv1d.weight"] = (value // groups, 1, config["conv_size"])
        out[p + "attn.gk_proj.0.weight"] = (16, hidden)
        out[p + "attn.gk_proj.1.weight"] = (key // groups, 16)
        out[p + "attn.gk_proj.1.bias"] = (key // groups,)
        if config["elementwise_affine"]:
            norm = "g_norm_swish_gate" if has_fused_gate(config) else "g_norm"
            out[p + f"attn.{norm}.weight"] = (value // config["num_heads"],)
        out[p + "attn.o_proj.weight"] = (hidden, value)
        out[p + "mlp_norm.weight"] = (hidden,)
        out[p + "mlp.gate_proj.weight"] = (mlp, hidden)
        out[p + "mlp.up_proj.weight"] = (mlp, hidden)
        out[p + "mlp.down_proj.weight"] = (hidden, mlp)
    out["model.norm.weight"] = (hidden,)
    if not config["tie_word_embeddings"]:
        out["lm_head.weight"] = (config["vocab_size"], hidden)
    return out


def make_weights(golden: Golden) -> dict[str, Tensor]:
    """Random weights that keep every signal near unit size and let the gates be felt.

    Gate logits are about 2 wide around biases in [-5, 3]: a channel forgets between 27 % and 0.3 %
    a token. Logits are kept small so that rounding to bf16 moves log-probabilities little.
    """
    generator = torch.Generator().manual_seed(golden.seed)
    config, out = golden.config(), {}
    for name, shape in shapes(config).items():
        noise = torch.randn(shape, generator=generator, dtype=torch.float64)
        if name.endswith("norm.weight") or name.endswith("gate.weight"):
            value = 1 + 0.3 * noise
        elif name.endswith("gk_proj.1.bias"):
            value = -5 + 8 * torch.rand(shape, generator=generator, dtype=torch.float64)
        elif name == "model.embeddings.weight":
            value = noise * (
                LOGIT_SIZE / math.sqrt(shape[1]) if "lm_head.weight" not in shapes(config) else 0.5
            )
        else:
            gain = next((g for part, g in GAINS.items() if part in name), 1.0)
            value = gain * noise / math.sqrt(shape[-1])
        out[name] = value.to(golden.dtype)
    return out


LOGIT_SIZE = 0.2
GAINS = {"gk_proj.1": 2.0, "lm_head": LOGIT_SIZE, "o_proj": 0.7, "down_proj": 0.7}


class Oracle:
    """The model in float64, token by token, written from its formulas alone.

    The fields named after mistakes make it wrong on purpose.
    """

    def __init__(self, config: dict, weights: dict[str, Tensor], mistake: str = "") -> None:
        self.config, self.mistake = dict(config), mistake
        self.weights = {k: v.double() for k, v in weights.items()}
        if mistake == "no clamp":
            self.config["clamp_min"] = None
        if mistake == "no feature map":
            self.config["feature_map"] = None
        if mistake == "epsilon 1e-6":
            self.config["norm_eps"] = 1e-6

    def linear(self, name: str, x: Tensor) -> Tensor:
        """x W^T."""
        return x @ self.weights[name + ".weight"].T

    def norm(self, x: Tensor, name: str) -> Tensor:
        """RMSNorm over the last dimension; a missing weight is one."""
        y = x / torch.sqrt(x.square().mean(-1, keepdim=True) + self.config["norm_eps"])
        return y * self.weights.get(name + ".weight", torch.ones((), dtype=x.dtype))

    def conv(self, name: str, x: Tensor) -> Tensor:
        """Causal depthwise convolution over time, then swish; the last tap is the present."""
        if not self.config["use_short_conv"] or self.mistake == "no convolution":
            return x
        taps = self.weights[name + ".weight"][:, 0]
        if self.mistake == "taps reversed":
            taps = taps.flip(1)
        size = taps.shape[1]
        past = F.pad(x, (0, 0, size - 1, 0))
        return F.silu(sum(past[i : i + len(x)] * taps[:, i] for i in range(size)))

    def features(self, x: Tensor) -> Tensor:
        """The feature map of queries and keys."""
        maps = {None: lambda y: y, "relu": F.relu, "swish": F.silu}
        return maps[self.config["feature_map"]](x)

    def per_head(self, x: Tensor, shared: bool) -> Tensor:
        """[T, heads * D] to [T, H, D]; a shared head serves H / kv heads that follow each other."""
        heads = self.config["num_heads"]
        kv = (self.config["num_kv_heads"] or heads) if shared else heads
        x = x.unflatten(-1, (kv, -1))
        if self.mistake == "groups interleaved":
            return x.repeat(1, heads // kv, 1)
        return x.repeat_interleave(heads // kv, dim=1)

    def mixer(self, p: str, x: Tensor) -> Tensor:
        """x [T, hidden] to the same shape."""
        q = self.features(
            self.per_head(self.conv(p + "q_conv1d", self.linear(p + "q_proj", x)), False)
        )
        k = self.features(
            self.per_head(self.conv(p + "k_conv1d", self.linear(p + "k_proj", x)), True)
        )
        v = self.per_head(self.conv(p + "v_conv1d", self.linear(p + "v_proj", x)), True)
        gate = self.linear(p + "gk_proj.1", self.linear(p + "gk_proj.0", x))
        if self.mistake != "no gate bias":
            gate = gate + self.weights[p + "gk_proj.1.bias"]
        gate = F.logsigmoid(self.per_head(gate, True)) / (8 if self.mistake == "gate / 8" else 16)
        if self.config["clamp_min"] is not None:
            gate = gate.clamp_min(self.config["clamp_min"])
        if self.mistake == "no gate":
            gate = torch.zeros_like(gate)
        state = q.new_zeros(*k.shape[1:], v.shape[-1])
        out = []
        for t in range(len(x)):
            read = state
            state = gate[t].exp()[..., None] * state + k[t][..., None] * v[t][:, None]
            read = read if self.mistake == "read before write" else state
            out.append((q[t][:, None] @ read)[:, 0])
        o = torch.stack(out) * (1 if self.mistake == "no scale" else q.shape[-1] ** -0.5)
        o = self.norm(o, p + ("g_norm_swish_gate" if has_fused_gate(self.config) else "g_norm"))
        if self.config["use_output_gate"]:
            g = self.linear(p + "g_proj", x).unflatten(-1, o.shape[1:])
            o = o * (g.sigmoid() if self.mistake == "sigmoid output gate" else F.silu(g))
        return self.linear(p + "o_proj", o.flatten(1))

    def mlp(self, p: str, x: Tensor) -> Tensor:
        """SwiGLU."""
        gate = F.silu(self.linear(p + "gate_proj", x))
        return self.linear(p + "down_proj", gate * self.linear(p + "up_proj", x))

    def logprobs(self, ids: list[int]) -> Tensor:
        """Log-probabilities [T, vocab] of the token after each of ids."""
        x = self.weights["model.embeddings.weight"][ids]
        for layer in range(self.config["num_hidden_layers"]):
            p = f"model.layers.{layer}."
            x = x + self.mixer(p + "attn.", self.norm(x, p + "attn_norm"))
            x = x + self.mlp(p + "mlp.", self.norm(x, p + "mlp_norm"))
        head = "model.embeddings" if self.config["tie_word_embeddings"] else "lm_head"
        return self.linear(head, self.norm(x, "model.norm")).log_softmax(-1)


MISTAKES: dict[str, Callable[[dict], bool]] = {
    "no gate": lambda c: True,
    "gate / 8": lambda c: True,
    "no gate bias": lambda c: True,
    "read before write": lambda c: True,
    "no scale": lambda c: c["norm_eps"] >= 1e-2,
    "no clamp": lambda c: c["clamp_min"] is not None,
    "no feature map": lambda c: c["feature_map"] is not None,
    "no convolution": lambda c: c["use_short_conv"],
    "taps reversed": lambda c: c["use_short_conv"],
    "groups interleaved": lambda c: 1 < (c["num_kv_heads"] or 1) < c["num_heads"],
    "epsilon 1e-6": lambda c: c["norm_eps"] >= 1e-2,
    "sigmoid output gate": lambda c: c["use_output_gate"],
}
"""Each with the settings in which it must show."""


def check_mistakes(
    config: dict, weights: dict[str, Tensor], ids: list[int], right: np.ndarray
) -> dict:
    """Mean change of the tokens' log-probabilities by each mistake that must show."""
    out = {}
    for mistake, applies in MISTAKES.items():
        if not applies(config):
            continue
        wrong = Oracle(config, weights, mistake).logprobs(ids).numpy()
        change = float(np.abs(token_logprobs(ids, wrong) - token_logprobs(ids, right)).mean())
        out[mistake] = round(change, 4)
        if change < MIN_MISTAKE:
            raise AssertionError(f"{mistake!r} would hardly be seen: {change:.4f}")
    return out


def build(config: dict, weights: dict[str, Tensor], device: str):
    """GLAForCausalLM over the given tensors in float32."""
    # Triton's interpreter cannot run the chunkwise kernels.
    mode = "chunk" if device == "cuda" else "fused_recurrent"
    tensors = {name: tensor.double().numpy() for name, tensor in weights.items()}
    keys = {**config, "attn_mode": mode}
    return reference.build("fla.models", "GLAForCausalLM", "GLAConfig", keys, tensors).to(device)


def write_one(golden: Golden, out: Path, device: str) -> None:
    """Makes, checks and writes one checkpoint."""
    config, weights = golden.config(), make_weights(golden)
    generator = torch.Generator().manual_seed(1000 + golden.seed)
    prompts = [
        torch.randint(config["vocab_size"], (n,), generator=generator).tolist() for n in LENGTHS
    ]
    model = build(config, weights, device)
    half = build(config, weights, device).to(torch.bfloat16)
    oracle, cases, differences, rounding = Oracle(config, weights), [], [0.0], []
    for ids in prompts:
        logprobs = reference.logprobs(model, ids, device)
        differences.append(float(np.abs(logprobs - oracle.logprobs(ids).numpy()).max()))
        rounded = token_logprobs(ids, reference.logprobs(half, ids, device))
        rounding.append(np.abs(rounded - token_logprobs(ids, logprobs)))
        cases.append(case(ids, logprobs))
    rounding = np.concatenate(rounding)
    measured = {
        "max_difference_from_float64": float(f"{max(differences):.2g}"),
        "bf16_mean_difference": float(f"{rounding.mean():.2g}"),
        "bf16_max_difference": float(f"{rounding.max():.2g}"),
    }
    print(f"{golden.name:30} {measured}", flush=True)
    right = oracle.logprobs(prompts[-1]).numpy()
    mistakes = check_mistakes(config, weights, prompts[-1], right)
    print(f"{'':30} spread {right.std():.2f}, mistakes {mistakes}", flush=True)
    if max(differences) > MAX_ORACLE_DIFFERENCE:
        raise AssertionError("flash-linear-attention and the oracle disagree")
    if rounding.mean() > MAX_BF16_MEAN or rounding.max() > MAX_BF16:
        raise AssertionError("too sensitive to rounding")

    tensors = {name: tensor.double().numpy() for name, tensor in weights.items()}
    dtype = str(golden.dtype).removeprefix("torch.")
    write_checkpoint(out / golden.name, golden.config_json(), tensors, dtype, golden.shards)
    packages = ("flash-linear-attention", "triton")
    ran = reference.what_ran("flash-linear-attention GLAForCausalLM", packages, device)
    settings = {**ran, **measured, "mean_change_by_mistake": mistakes}
    write_golden(out / golden.name, settings, cases)


def main() -> None:
    """Writes all goldens, or the named ones."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("--out", type=Path, default=Path(__file__).parent)
    parser.add_argument("--only", nargs="*", default=[g.name for g in GOLDENS])
    parser.add_argument("--device", default="cuda", help="cpu: Triton's interpreter, slow")
    args = parser.parse_args()
    reference.prepare(args.device)
    for golden in GOLDENS:
        if golden.name in args.only:
            write_one(golden, args.out, args.device)


if __name__ == "__main__":
    main()
