"""Gated RetNet: YOCO's gated retention (arXiv 2405.05254, section 3.1) in every layer.

Our own format, after flash-linear-attention's block style and the tensor names of its
YOCOGatedRetention.
"""

import numpy as np

from golden_file import Tensors
from reference.blocks import (
    Net,
    fla_logits,
    fla_shapes,
    flat,
    heads,
    recurrence,
    rms,
    rotate,
    silu,
)
from reference.checkpoint import Checkpoint, Rule, gaussian

SOURCE = None
ARCHITECTURE = "GatedRetNetForCausalLM"
DEFAULTS = {
    "expand_k": 1.0,
    "expand_v": 1.0,
    "hidden_ratio": 4,
    "intermediate_size": None,
    "gate_logit_normalizer": 16.0,
    "rope_theta": 10000.0,
    "elementwise_affine": False,
    "norm_eps": 1e-6,
    "tie_word_embeddings": False,
}
RULES: dict[str, Rule] = {"gk_proj.weight": gaussian(2.0)}


def shapes(config: dict) -> dict[str, tuple[int, ...]]:
    """Names and shapes of the tensors."""
    hidden, count = config["hidden_size"], config["num_heads"]
    key, value = round(hidden * config["expand_k"]), round(hidden * config["expand_v"])
    mixer: dict[str, tuple[int, ...]] = {
        "q_proj.weight": (key, hidden),
        "k_proj.weight": (key, hidden),
        "v_proj.weight": (value, hidden),
        "g_proj.weight": (value, hidden),
        "gk_proj.weight": (count, hidden),
        "o_proj.weight": (hidden, value),
    }
    if config["elementwise_affine"]:
        mixer["o_norm.weight"] = (value // count,)
    return fla_shapes(config, mixer)


def logits(config: dict, tensors: Tensors, ids: list[int], rounding: bool = False) -> np.ndarray:
    """Logits [T, vocab]."""
    net, count = Net(tensors, rounding), config["num_heads"]

    def mixer(p: str, layer: int, x: np.ndarray) -> np.ndarray:
        q, k, v, g = (heads(net.linear(p + n + "_proj", x), count) for n in "qkvg")
        q, k = (net.round(rotate(y, config["rope_theta"])) for y in (q, k))
        gate = -np.logaddexp(0, -net.linear(p + "gk_proj", x)) / config["gate_logit_normalizer"]
        o = recurrence(q, k, v, np.exp(gate)[..., None]) * q.shape[-1] ** -0.5
        o = net.affine(p + "o_norm", rms(o, config["norm_eps"]))
        return net.linear(p + "o_proj", flat(net.round(o * silu(g))))

    return fla_logits(config, net, ids, mixer)


CHECKPOINTS = (
    Checkpoint(
        "gated_retnet_fp32",
        1001,
        "float32",
        {
            "vocab_size": 128,
            "hidden_size": 32,
            "num_hidden_layers": 2,
            "num_heads": 2,
            "intermediate_size": 64,
        },
        {"gate_logit_normalizer": 8.0, "rope_theta": 100.0},
    ),
    Checkpoint(
        "gated_retnet_affine_bf16",
        10021,
        "bfloat16",
        {
            "vocab_size": 128,
            "hidden_size": 48,
            "num_hidden_layers": 2,
            "num_heads": 3,
            "expand_v": 2.0,
            "gate_logit_normalizer": 4.0,
            "rope_theta": 500.0,
            "elementwise_affine": True,
            "norm_eps": 1e-2,
            "intermediate_size": 64,
            "tie_word_embeddings": True,
        },
        {"gate_logit_normalizer": 16.0, "rope_theta": 10000.0, "norm_eps": 1e-6},
    ),
)
