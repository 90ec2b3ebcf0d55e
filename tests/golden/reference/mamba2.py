"""Mamba-2 (arXiv 2405.21060), in the formats of transformers and of flash-linear-attention."""

import numpy as np

from golden_file import Tensors
from reference.blocks import Net, flat, heads, recurrence, rms, share, silu, softplus
from reference.checkpoint import (
    Checkpoint,
    Rule,
    inverse_softplus,
    log_uniform,
    normal,
)
from reference.mamba import backbone

SOURCE = ("transformers", "Mamba2ForCausalLM", "Mamba2Config")
INFINITY = float("inf")
DEFAULTS = {
    "head_dim": 64,
    "state_size": 128,
    "layer_norm_epsilon": 1e-5,
    "expand": 2,
    "conv_kernel": 4,
    "n_groups": 8,
    "use_bias": False,
    "use_conv_bias": True,
    "time_step_limit": [0.0, INFINITY],
    "tie_word_embeddings": False,
    # What only flash-linear-attention's format can say otherwise.
    "rmsnorm": True,
    "norm_before_gate": False,
    "D_has_hdim": False,
}
RULES: dict[str, Rule] = {
    "A_log": log_uniform(0.2, 4),
    "mixer.D": normal(1, 0.5),
    "dt_bias": inverse_softplus(0.01, 0.5),
}


def shapes(config: dict) -> dict[str, tuple[int, ...]]:
    """Names and shapes of the tensors."""
    hidden, count = config["hidden_size"], config["num_heads"]
    inner = count * config["head_dim"]
    conv = inner + 2 * config["n_groups"] * config["state_size"]
    out: dict[str, tuple[int, ...]] = {"backbone.embeddings.weight": (config["vocab_size"], hidden)}
    for layer in range(config["num_hidden_layers"]):
        p = f"backbone.layers.{layer}."
        out[p + "norm.weight"] = (hidden,)
        p += "mixer."
        out[p + "in_proj.weight"] = (inner + conv + count, hidden)
        out[p + "conv1d.weight"] = (conv, 1, config["conv_kernel"])
        if config["use_conv_bias"]:
            out[p + "conv1d.bias"] = (conv,)
        out[p + "dt_bias"] = (count,)
        out[p + "A_log"] = (count,)
        out[p + "D"] = (inner if config["D_has_hdim"] else count,)
        if config["rmsnorm"]:
            out[p + "norm.weight"] = (inner,)
        out[p + "out_proj.weight"] = (hidden, inner)
        if config["use_bias"]:
            out[p + "in_proj.bias"] = (inner + conv + count,)
            out[p + "out_proj.bias"] = (hidden,)
    out["backbone.norm_f.weight"] = (hidden,)
    if not config["tie_word_embeddings"]:
        out["lm_head.weight"] = (config["vocab_size"], hidden)
    return out


def gated_norm(config: dict, net: Net, p: str, y: np.ndarray, z: np.ndarray) -> np.ndarray:
    """The gate, and the norm over each group's channels. y, z [T, D]."""
    if not config["rmsnorm"]:
        return net.round(y * silu(z))
    groups, eps = config["n_groups"], config["layer_norm_epsilon"]
    if config["norm_before_gate"]:
        return net.round(net.affine(p + "norm", flat(rms(heads(y, groups), eps))) * silu(z))
    return net.affine(p + "norm", flat(rms(heads(y * silu(z), groups), eps)))


def mixer(config: dict, net: Net, p: str, u: np.ndarray) -> np.ndarray:
    """The one sublayer of a layer."""
    count, groups = config["num_heads"], config["n_groups"]
    inner, state = count * config["head_dim"], groups * config["state_size"]
    z, x, dt = np.split(net.linear(p + "in_proj", u), [inner, 2 * inner + 2 * state], axis=-1)
    x = net.round(silu(net.conv(p + "conv1d", x)))
    x, b, c = np.split(x, [inner, inner + state], axis=-1)
    x, b, c = heads(x, count), share(heads(b, groups), count), share(heads(c, groups), count)
    dt = np.clip(softplus(dt + net[p + "dt_bias"]), *config["time_step_limit"])[..., None]
    y = recurrence(c, b, dt * x, np.exp(-np.exp(net[p + "A_log"])[:, None] * dt))
    y = net.round(flat(y + net[p + "D"].reshape(count, -1) * x))
    return net.linear(p + "out_proj", gated_norm(config, net, p, y, z))


def logits(config: dict, tensors: Tensors, ids: list[int], rounding: bool = False) -> np.ndarray:
    """Logits [T, vocab]."""
    return backbone(config, Net(tensors, rounding), ids, config["layer_norm_epsilon"], mixer)


CHECKPOINTS = (
    # Groups of two heads, and time steps held between limits.
    Checkpoint(
        "mamba2_groups_fp32",
        701,
        "float32",
        {
            "vocab_size": 128,
            "hidden_size": 32,
            "num_hidden_layers": 2,
            "num_heads": 4,
            "head_dim": 16,
            "state_size": 16,
            "n_groups": 2,
            "time_step_limit": [0.05, 0.3],
            "use_bias": True,
        },
        {"time_step_limit": [0.0, INFINITY], "layer_norm_epsilon": 1e-2},
    ),
    Checkpoint(
        "mamba2_tied_bf16",
        702,
        "bfloat16",
        {
            "vocab_size": 128,
            "hidden_size": 64,
            "num_hidden_layers": 2,
            "num_heads": 8,
            "head_dim": 16,
            "state_size": 32,
            "n_groups": 2,
            "use_conv_bias": False,
            "layer_norm_epsilon": 1e-2,
            "tie_word_embeddings": True,
        },
        {"layer_norm_epsilon": 1e-5},
    ),
    # One group, wide heads and three taps.
    Checkpoint(
        "mamba2_wide_fp16",
        703,
        "float16",
        {
            "vocab_size": 160,
            "hidden_size": 64,
            "num_hidden_layers": 2,
            "num_heads": 2,
            "head_dim": 64,
            "state_size": 16,
            "n_groups": 1,
            "conv_kernel": 3,
        },
    ),
)
