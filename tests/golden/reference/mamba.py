"""Mamba (arXiv 2312.00752), in the formats of transformers and of flash-linear-attention."""

import math

import numpy as np

from golden_file import Tensors
from reference.blocks import Net, silu, softplus
from reference.checkpoint import (
    Checkpoint,
    Rule,
    inverse_softplus,
    log_uniform,
    normal,
)

SOURCE = ("transformers", "MambaForCausalLM", "MambaConfig")
DEFAULTS = {
    "state_size": 16,
    "layer_norm_epsilon": 1e-5,
    "expand": 2,
    "conv_kernel": 4,
    "use_bias": False,
    "use_conv_bias": True,
    "time_step_rank": "auto",
    "tie_word_embeddings": True,
}
RULES: dict[str, Rule] = {
    "A_log": log_uniform(0.5, 8),
    "mixer.D": normal(1, 0.5),
    "dt_proj.bias": inverse_softplus(0.01, 0.5),
}


def rank(config: dict) -> int:
    """The rank of dt."""
    given = config["time_step_rank"]
    return math.ceil(config["hidden_size"] / 16) if given == "auto" else given


def shapes(config: dict) -> dict[str, tuple[int, ...]]:
    """Names and shapes of the tensors."""
    hidden, state = config["hidden_size"], config["state_size"]
    inner = int(config["expand"] * hidden)
    out: dict[str, tuple[int, ...]] = {"backbone.embeddings.weight": (config["vocab_size"], hidden)}
    for layer in range(config["num_hidden_layers"]):
        p = f"backbone.layers.{layer}."
        out[p + "norm.weight"] = (hidden,)
        p += "mixer."
        out[p + "in_proj.weight"] = (2 * inner, hidden)
        out[p + "conv1d.weight"] = (inner, 1, config["conv_kernel"])
        if config["use_conv_bias"]:
            out[p + "conv1d.bias"] = (inner,)
        out[p + "x_proj.weight"] = (rank(config) + 2 * state, inner)
        out[p + "dt_proj.weight"] = (inner, rank(config))
        out[p + "dt_proj.bias"] = (inner,)
        out[p + "A_log"] = (inner, state)
        out[p + "D"] = (inner,)
        out[p + "out_proj.weight"] = (hidden, inner)
        if config["use_bias"]:
            out[p + "in_proj.bias"] = (2 * inner,)
            out[p + "out_proj.bias"] = (hidden,)
    out["backbone.norm_f.weight"] = (hidden,)
    if not config["tie_word_embeddings"]:
        out["lm_head.weight"] = (config["vocab_size"], hidden)
    return out


def scan(
    net: Net, p: str, x: np.ndarray, dt: np.ndarray, b: np.ndarray, c: np.ndarray
) -> np.ndarray:
    """x, dt [T, D], b, c [T, N]: h = exp(dt A) h + dt b x; y = c h + D x."""
    decay = -np.exp(net[p + "A_log"])
    state = np.zeros(decay.shape)
    out = np.empty(x.shape)
    for t in range(len(x)):
        state = np.exp(dt[t][:, None] * decay) * state + (dt[t] * x[t])[:, None] * b[t]
        out[t] = state @ c[t] + net[p + "D"] * x[t]
    return out


def mixer(config: dict, net: Net, p: str, u: np.ndarray) -> np.ndarray:
    """The one sublayer of a layer."""
    x, z = np.split(net.linear(p + "in_proj", u), 2, axis=-1)
    x = net.round(silu(net.conv(p + "conv1d", x)))
    size, state = rank(config), config["state_size"]
    low, b, c = np.split(net.linear(p + "x_proj", x), [size, size + state], axis=-1)
    dt = softplus(net.round(low @ net[p + "dt_proj.weight"].T) + net[p + "dt_proj.bias"])
    y = net.round(scan(net, p, x, dt, b, c) * silu(z))
    return net.linear(p + "out_proj", y)


def backbone(config: dict, net: Net, ids: list[int], eps: float, mix) -> np.ndarray:
    """Pre-norm layers of one sublayer each: mix(config, net, prefix, x)."""
    x = net["backbone.embeddings.weight"][ids]
    for layer in range(config["num_hidden_layers"]):
        p = f"backbone.layers.{layer}."
        x = net.round(x + mix(config, net, p + "mixer.", net.rms_norm(p + "norm", x, eps)))
    head = "backbone.embeddings" if config["tie_word_embeddings"] else "lm_head"
    return net.rms_norm("backbone.norm_f", x, eps) @ net[head + ".weight"].T


def logits(config: dict, tensors: Tensors, ids: list[int], rounding: bool = False) -> np.ndarray:
    """Logits [T, vocab]."""
    return backbone(config, Net(tensors, rounding), ids, config["layer_norm_epsilon"], mixer)


CHECKPOINTS = (
    # Tied, by absence of the key.
    Checkpoint(
        "mamba_fp32",
        501,
        "float32",
        {"vocab_size": 128, "hidden_size": 32, "num_hidden_layers": 2, "time_step_rank": 8},
        {"layer_norm_epsilon": 1e-2},
    ),
    Checkpoint(
        "mamba_bias_bf16",
        502,
        "bfloat16",
        {
            "vocab_size": 128,
            "hidden_size": 48,
            "num_hidden_layers": 3,
            "state_size": 8,
            "time_step_rank": 8,
            "conv_kernel": 3,
            "use_bias": True,
            "use_conv_bias": False,
            "layer_norm_epsilon": 1e-2,
            "tie_word_embeddings": False,
        },
        {"layer_norm_epsilon": 1e-5},
    ),
    # time_step_rank "auto" is a sixteenth of the hidden size.
    Checkpoint(
        "mamba_auto_fp16",
        503,
        "float16",
        {
            "vocab_size": 160,
            "hidden_size": 128,
            "num_hidden_layers": 1,
            "expand": 1,
            "state_size": 32,
            "time_step_rank": "auto",
            "tie_word_embeddings": True,
        },
        {},
        {"A_log": log_uniform(0.2, 4)},
    ),
)
