"""Gated random feature attention (arXiv 2103.02143, section 3.2), in our own format."""

import numpy as np

from golden_file import Tensors
from reference.blocks import Net, fla_logits, fla_shapes, flat, heads, recurrence, rms, sigmoid
from reference.checkpoint import Checkpoint, Rule, gaussian, normal, uniform

SOURCE = None
ARCHITECTURE = "GatedRFAForCausalLM"
DEFAULTS = {
    "expand_k": 1.0,
    "expand_v": 1.0,
    "num_features": None,
    "hidden_ratio": 4,
    "intermediate_size": None,
    "norm_eps": 1e-6,
    "normalizer_eps": 1e-6,
    "tie_word_embeddings": False,
}
RULES: dict[str, Rule] = {
    "g_proj.bias": uniform(0, 4),
    "g_proj.weight": gaussian(1.5),
    # Wide enough to matter, narrow enough that phi(q) . z stays well above zero.
    "random_features": normal(0, 0.8),
    "o_proj.weight": gaussian(1.5),
}


def shapes(config: dict) -> dict[str, tuple[int, ...]]:
    """Names and shapes of the tensors."""
    hidden, count = config["hidden_size"], config["num_heads"]
    key, value = round(hidden * config["expand_k"]), round(hidden * config["expand_v"])
    size = key // count
    mixer: dict[str, tuple[int, ...]] = {
        "q_proj.weight": (key, hidden),
        "k_proj.weight": (key, hidden),
        "v_proj.weight": (value, hidden),
        "g_proj.weight": (count, hidden),
        "g_proj.bias": (count,),
        "random_features": (count, config["num_features"] or size, size),
        "o_proj.weight": (hidden, value),
    }
    return fla_shapes(config, mixer)


def logits(config: dict, tensors: Tensors, ids: list[int], rounding: bool = False) -> np.ndarray:
    """Logits [T, vocab]."""
    net, count = Net(tensors, rounding), config["num_heads"]

    def features(p: str, x: np.ndarray) -> np.ndarray:
        """[T, H, K] to [T, H, 2 D]: sines, then cosines, of projections of the unit vectors."""
        x = net.round(rms(x, config["norm_eps"]) * x.shape[-1] ** -0.5)
        y = net.round(np.einsum("thk,hdk->thd", x, net[p + "random_features"]))
        return net.round(np.concatenate([np.sin(y), np.cos(y)], -1) * y.shape[-1] ** -0.5)

    def mixer(p: str, layer: int, x: np.ndarray) -> np.ndarray:
        q, k, v = (heads(net.linear(p + n + "_proj", x), count) for n in "qkv")
        q, k = features(p, q), features(p, k)
        gate = sigmoid(net.linear(p + "g_proj", x))[..., None]
        ones = np.ones((*v.shape[:-1], 1))
        o = recurrence(q, (1 - gate) * k, np.concatenate([v, ones], -1), gate)
        o = o[..., :-1] / (o[..., -1:] + config["normalizer_eps"])
        return net.linear(p + "o_proj", flat(net.round(o)))

    return fla_logits(config, net, ids, mixer)


CHECKPOINTS = (
    Checkpoint(
        "gated_rfa_fp32",
        1101,
        "float32",
        {
            "vocab_size": 128,
            "hidden_size": 32,
            "num_hidden_layers": 2,
            "num_heads": 2,
            "intermediate_size": 64,
        },
        {"normalizer_eps": 0.3},
    ),
    # Fewer features than key channels, values of twice their width, epsilons that are felt.
    Checkpoint(
        "gated_rfa_few_features_bf16",
        1102,
        "bfloat16",
        {
            "vocab_size": 128,
            "hidden_size": 32,
            "num_hidden_layers": 2,
            "num_heads": 1,
            "num_features": 24,
            "expand_v": 2.0,
            "norm_eps": 1e-2,
            "normalizer_eps": 0.1,
            "intermediate_size": 96,
            "tie_word_embeddings": True,
        },
        {"normalizer_eps": 1e-6, "norm_eps": 1e-6},
    ),
)
