"""RetNet as flash-linear-attention's RetNetForCausalLM has it (arXiv 2307.08621)."""

import numpy as np

from golden_file import Tensors
from reference.blocks import (
    ACTIVATIONS,
    Net,
    fla_logits,
    fla_shapes,
    flat,
    heads,
    recurrence,
    rms,
    rotate,
    share,
    silu,
)
from reference.checkpoint import Checkpoint, Rule

SOURCE = ("fla.models", "RetNetForCausalLM", "RetNetConfig")
DEFAULTS = {
    "expand_k": 1.0,
    "expand_v": 2.0,
    "hidden_ratio": 2,
    "intermediate_size": None,
    "num_kv_heads": None,
    "feature_map": None,
    "use_output_gate": True,
    "elementwise_affine": True,
    "norm_eps": 1e-6,
    "fuse_norm": True,
    "tie_word_embeddings": False,
}
RULES: dict[str, Rule] = {}


def norm_name(config: dict) -> str:
    """The per-head norm's name."""
    return "g_norm_swish_gate" if config["fuse_norm"] and config["use_output_gate"] else "g_norm"


def shapes(config: dict) -> dict[str, tuple[int, ...]]:
    """Names and shapes of the tensors."""
    hidden, count = config["hidden_size"], config["num_heads"]
    key, value = round(hidden * config["expand_k"]), round(hidden * config["expand_v"])
    groups = count // (config["num_kv_heads"] or count)
    mixer: dict[str, tuple[int, ...]] = {
        "q_proj.weight": (key, hidden),
        "k_proj.weight": (key // groups, hidden),
        "v_proj.weight": (value // groups, hidden),
        "o_proj.weight": (hidden, value),
    }
    if config["use_output_gate"]:
        mixer["g_proj.weight"] = (value, hidden)
    if config["elementwise_affine"]:
        mixer[norm_name(config) + ".weight"] = (value // count,)
    return fla_shapes(config, mixer)


def logits(config: dict, tensors: Tensors, ids: list[int], rounding: bool = False) -> np.ndarray:
    """Logits [T, vocab]."""
    net, count = Net(tensors, rounding), config["num_heads"]
    kv = config["num_kv_heads"] or count
    decay = 1 - 2.0 ** (-5 - np.arange(count))[:, None]
    phi = ACTIVATIONS.get(config["feature_map"], lambda x: x)

    def mixer(p: str, layer: int, x: np.ndarray) -> np.ndarray:
        q = rotate(phi(heads(net.linear(p + "q_proj", x), count)), 10000.0)
        k = share(rotate(phi(heads(net.linear(p + "k_proj", x), kv)), 10000.0), count)
        v = share(heads(net.linear(p + "v_proj", x), kv), count)
        q, k = net.round(q), net.round(k)
        o = recurrence(q, k, v, decay) * q.shape[-1] ** -0.5
        o = net.affine(p + norm_name(config), rms(o, config["norm_eps"]))
        if config["use_output_gate"]:
            o = net.round(o * silu(heads(net.linear(p + "g_proj", x), count)))
        return net.linear(p + "o_proj", flat(o))

    return fla_logits(config, net, ids, mixer)


CHECKPOINTS = (
    Checkpoint(
        "retnet_fp32",
        77,
        "float32",
        {
            "vocab_size": 128,
            "hidden_size": 32,
            "num_hidden_layers": 2,
            "num_heads": 2,
            "intermediate_size": 64,
        },
    ),
    # Key/value heads shared by two query heads of different decay, no gate, no norm weight.
    Checkpoint(
        "retnet_grouped_relu_bf16",
        102,
        "bfloat16",
        {
            "vocab_size": 128,
            "hidden_size": 64,
            "num_hidden_layers": 2,
            "num_heads": 4,
            "num_kv_heads": 2,
            "expand_v": 1.0,
            "feature_map": "relu",
            "use_output_gate": False,
            "elementwise_affine": False,
            "intermediate_size": 64,
            "tie_word_embeddings": True,
        },
        {"feature_map": None},
    ),
    # fuse_norm false: g_norm beside g_proj. Wide heads, and an epsilon that is felt.
    Checkpoint(
        "retnet_unfused_fp16",
        1031,
        "float16",
        {
            "vocab_size": 160,
            "hidden_size": 32,
            "num_hidden_layers": 2,
            "num_heads": 1,
            "expand_k": 2.0,
            "expand_v": 1.0,
            "fuse_norm": False,
            "norm_eps": 1e-2,
            "intermediate_size": 96,
            "tie_word_embeddings": True,
        },
        {"norm_eps": 1e-6},
    ),
)
