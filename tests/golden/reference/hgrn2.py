"""HGRN-2 as flash-linear-attention's HGRN2ForCausalLM has it (arXiv 2404.07904)."""

import numpy as np

from golden_file import Tensors
from reference.blocks import Net, fla_logits, fla_shapes, flat, heads, recurrence, silu, softmax
from reference.checkpoint import Checkpoint, Rule, gaussian, normal

SOURCE = ("fla.models", "HGRN2ForCausalLM", "HGRN2Config")
DEFAULTS = {
    "num_heads": None,
    "expand_ratio": 128,
    "use_short_conv": False,
    "conv_size": 4,
    "use_lower_bound": True,
    "hidden_ratio": 4,
    "intermediate_size": None,
    "elementwise_affine": True,
    "norm_eps": 1e-6,
    "tie_word_embeddings": False,
}
RULES: dict[str, Rule] = {"lower_bounds": normal(0, 1.0), "f_proj.weight": gaussian(2.0)}
G_NORM_EPS = 1e-5
"""The mixer's norm keeps its own epsilon, whatever norm_eps says."""


def ratio(config: dict) -> int:
    """The key channels of a head."""
    return config["expand_ratio"] or config["hidden_size"] // config["num_heads"]


def shapes(config: dict) -> dict[str, tuple[int, ...]]:
    """Names and shapes of the tensors."""
    hidden = config["hidden_size"]
    forget = hidden // ratio(config) * ratio(config)
    mixer: dict[str, tuple[int, ...]] = {
        "q_proj.weight": (forget, hidden),
        "f_proj.weight": (forget, hidden),
        "i_proj.weight": (hidden, hidden),
        "o_proj.weight": (hidden, hidden),
    }
    if config["use_short_conv"]:
        mixer["q_conv1d.weight"] = (forget, 1, config["conv_size"])
        mixer["f_conv1d.weight"] = (forget, 1, config["conv_size"])
        mixer["i_conv1d.weight"] = (hidden, 1, config["conv_size"])
    if config["elementwise_affine"]:
        mixer["g_norm.weight"] = (hidden,)
    out = fla_shapes(config, mixer)
    if config["use_lower_bound"]:
        out["model.lower_bounds"] = (config["num_hidden_layers"], hidden)
    return out


def logits(config: dict, tensors: Tensors, ids: list[int], rounding: bool = False) -> np.ndarray:
    """Logits [T, vocab]."""
    net, count = Net(tensors, rounding), config["hidden_size"] // ratio(config)
    bounds = None
    if config["use_lower_bound"]:
        part = softmax(net["model.lower_bounds"], 0)
        bounds = part.cumsum(0) - part[0]

    def mixer(p: str, layer: int, x: np.ndarray) -> np.ndarray:
        q, f, v = (net.linear(p + name + "_proj", x) for name in "qfi")
        if config["use_short_conv"]:
            q, f, v = (
                net.conv(p + n + "_conv1d", y) for n, y in zip("qfi", (q, f, v), strict=True)
            )
        gate = -np.logaddexp(0, -f)
        if bounds is not None and layer > 0:
            gate = np.logaddexp(np.log(bounds[layer]), np.log1p(-bounds[layer]) + gate)
        decay = heads(np.exp(gate), count)
        q, k, v = heads(net.round(silu(q)), count), net.round(1 - decay), heads(v, count)
        o = flat(recurrence(q, k, v, decay)) * q.shape[-1] ** -0.5
        return net.linear(p + "o_proj", net.rms_norm(p + "g_norm", o, G_NORM_EPS))

    return fla_logits(config, net, ids, mixer)


CHECKPOINTS = (
    # Three layers: the third's lower bounds are a sum.
    Checkpoint(
        "hgrn2_fp32",
        201,
        "float32",
        {
            "vocab_size": 128,
            "hidden_size": 32,
            "num_hidden_layers": 3,
            "expand_ratio": 16,
            "intermediate_size": 48,
        },
        {"use_lower_bound": False},
    ),
    Checkpoint(
        "hgrn2_conv_bf16",
        2021,
        "bfloat16",
        {
            "vocab_size": 128,
            "hidden_size": 64,
            "num_hidden_layers": 2,
            "num_heads": 2,
            "expand_ratio": 32,
            "use_short_conv": True,
            "elementwise_affine": False,
            "norm_eps": 1e-2,
            "intermediate_size": 64,
            "tie_word_embeddings": True,
        },
        {"use_short_conv": False, "norm_eps": 1e-6, "use_lower_bound": False},
    ),
    # Heads given by their number, gates down to zero.
    Checkpoint(
        "hgrn2_unbounded_fp16",
        203,
        "float16",
        {
            "vocab_size": 160,
            "hidden_size": 48,
            "num_hidden_layers": 2,
            "num_heads": 3,
            "expand_ratio": None,
            "use_lower_bound": False,
            "intermediate_size": 64,
        },
        {},
        {"f_proj.weight": gaussian(4.0)},
    ),
)
