"""Decaying fast weights (Mao 2022, arXiv 2210.04243), a gate on either side, in our own format."""

import numpy as np

from golden_file import Tensors
from reference.blocks import Net, fla_logits, fla_shapes, flat, heads, recurrence, sigmoid
from reference.checkpoint import Checkpoint, Rule, uniform

SOURCE = None
ARCHITECTURE = "DecayingFastWeightsForCausalLM"
DEFAULTS = {
    "expand_k": 1.0,
    "expand_v": 1.0,
    "hidden_ratio": 4,
    "intermediate_size": None,
    "norm_eps": 1e-6,
    "tie_word_embeddings": False,
}
RULES: dict[str, Rule] = {"a_proj.bias": uniform(0, 5), "b_proj.bias": uniform(0, 5)}


def shapes(config: dict) -> dict[str, tuple[int, ...]]:
    """Names and shapes of the tensors."""
    hidden = config["hidden_size"]
    key, value = round(hidden * config["expand_k"]), round(hidden * config["expand_v"])
    mixer: dict[str, tuple[int, ...]] = {
        "q_proj.weight": (key, hidden),
        "k_proj.weight": (key, hidden),
        "v_proj.weight": (value, hidden),
        "a_proj.weight": (key, hidden),
        "a_proj.bias": (key,),
        "b_proj.weight": (value, hidden),
        "b_proj.bias": (value,),
        "o_proj.weight": (hidden, value),
    }
    return fla_shapes(config, mixer)


def logits(config: dict, tensors: Tensors, ids: list[int], rounding: bool = False) -> np.ndarray:
    """Logits [T, vocab]."""
    net, count = Net(tensors, rounding), config["num_heads"]

    def mixer(p: str, layer: int, x: np.ndarray) -> np.ndarray:
        q, k, v, a, b = (heads(net.linear(p + n + "_proj", x), count) for n in "qkvab")
        o = recurrence(q, k, v, sigmoid(a), sigmoid(b)) * q.shape[-1] ** -0.5
        return net.linear(p + "o_proj", flat(net.round(o)))

    return fla_logits(config, net, ids, mixer)


CHECKPOINTS = (
    Checkpoint(
        "decaying_fast_weights_fp32",
        1201,
        "float32",
        {
            "vocab_size": 128,
            "hidden_size": 32,
            "num_hidden_layers": 2,
            "num_heads": 2,
            "intermediate_size": 48,
        },
    ),
    Checkpoint(
        "decaying_fast_weights_wide_bf16",
        12021,
        "bfloat16",
        {
            "vocab_size": 128,
            "hidden_size": 48,
            "num_hidden_layers": 2,
            "num_heads": 1,
            "expand_v": 1.0,
            "expand_k": 1.0,
            "norm_eps": 1e-2,
            "intermediate_size": 64,
            "tie_word_embeddings": True,
        },
        {"norm_eps": 1e-6},
    ),
)
