"""Linear attention (arXiv 2006.16236), as flash-linear-attention's LinearAttentionForCausalLM."""

import numpy as np

from golden_file import Tensors
from reference.blocks import (
    Net,
    fla_logits,
    fla_shapes,
    flat,
    heads,
    recurrence,
    relu,
    share,
    softmax,
)
from reference.checkpoint import Checkpoint, Rule, gaussian

SOURCE = ("fla.models", "LinearAttentionForCausalLM", "LinearAttentionConfig")
DEFAULTS = {
    "expand_k": 1.0,
    "expand_v": 1.0,
    "hidden_ratio": 4,
    "intermediate_size": None,
    "num_kv_heads": None,
    "feature_map": "elementwise_product",
    "tie_feature_map_qk": False,
    "norm_q": False,
    "norm_k": False,
    "norm_feature_map": False,
    "elementwise_affine": True,
    "norm_eps": 1e-6,
    "tie_word_embeddings": False,
}
RULES: dict[str, Rule] = {}


def map_shapes(config: dict, size: int) -> dict[str, tuple[int, ...]]:
    """The tensors of one feature map, for all heads."""
    matrix, bias = (size, size), (size,)
    return {
        "elementwise_product": {
            "layer1.weight": matrix,
            "layer1.bias": bias,
            "layer2.weight": matrix,
            "layer2.bias": bias,
        },
        "hedgehog": {"layer.weight": matrix, "layer.bias": bias},
        "t2r": {"layer.weight": matrix},
    }.get(config["feature_map"], {})


def shapes(config: dict) -> dict[str, tuple[int, ...]]:
    """Names and shapes of the tensors. A tied feature map is stored once, as the queries'."""
    hidden, count = config["hidden_size"], config["num_heads"]
    key, value = round(hidden * config["expand_k"]), round(hidden * config["expand_v"])
    groups = count // (config["num_kv_heads"] or count)
    mixer: dict[str, tuple[int, ...]] = {
        "q_proj.weight": (key, hidden),
        "k_proj.weight": (key // groups, hidden),
        "v_proj.weight": (value // groups, hidden),
        "o_proj.weight": (hidden, value),
    }
    for side in "q" if config["tie_feature_map_qk"] else "qk":
        for name, shape in map_shapes(config, key // count).items():
            mixer[f"feature_map_{side}.{name}"] = shape
    if config["elementwise_affine"]:
        mixer["norm.weight"] = (value // count,)
    return fla_shapes(config, mixer)


def dpfp(x: np.ndarray) -> np.ndarray:
    """Deterministic parameter-free projection with nu = 4 (arXiv 2102.11174)."""
    z = np.concatenate([relu(x), relu(-x)], -1)
    return np.concatenate([z * np.roll(z, shift, -1) for shift in range(1, 5)], -1)


def features(config: dict, net: Net, p: str, x: np.ndarray) -> np.ndarray:
    """The feature map of x [T, H, K]; p names its tensors."""
    kind = config["feature_map"]
    if kind == "elementwise_product":
        return net.linear(p + "layer1", x) * net.linear(p + "layer2", x)
    if kind == "hedgehog":
        y = 2 * net.linear(p + "layer", x)
        return softmax(np.concatenate([y, -y], -1), -1)
    if kind == "t2r":
        return relu(net.linear(p + "layer", x))
    elu = lambda y: np.where(y >= 0, y + 1, np.exp(np.minimum(y, 0)))  # noqa: E731
    return {"identity": lambda y: y, "relu": relu, "elu": elu, "dpfp": dpfp}[kind](x)


def logits(config: dict, tensors: Tensors, ids: list[int], rounding: bool = False) -> np.ndarray:
    """Logits [T, vocab]."""
    net, count = Net(tensors, rounding), config["num_heads"]
    kv = config["num_kv_heads"] or count

    def mixer(p: str, layer: int, x: np.ndarray) -> np.ndarray:
        key_map = p + f"feature_map_{'q' if config['tie_feature_map_qk'] else 'k'}."
        q = features(config, net, p + "feature_map_q.", heads(net.linear(p + "q_proj", x), count))
        k = features(config, net, key_map, heads(net.linear(p + "k_proj", x), kv))
        v = share(heads(net.linear(p + "v_proj", x), kv), count)
        if config["norm_q"]:
            q = q / (q.sum(-1, keepdims=True) + 1e-4)
        if config["norm_k"]:
            k = k / (k.sum(-1, keepdims=True) + 1e-4)
        q, k = net.round(q), share(net.round(k), count)
        scale = q.shape[-1] ** -0.5
        o = recurrence(q, k, v) * scale
        if config["norm_feature_map"]:
            o = o / ((q * k.cumsum(0)).sum(-1, keepdims=True) * scale + 1e-10)
        o = net.rms_norm(p + "norm", o, config["norm_eps"])
        return net.linear(p + "o_proj", flat(o))

    return fla_logits(config, net, ids, mixer)


SMALL = {"vocab_size": 128, "hidden_size": 32, "num_hidden_layers": 2, "num_heads": 2}
WIDE = {"vocab_size": 128, "hidden_size": 64, "num_hidden_layers": 2, "num_heads": 4}
CHECKPOINTS = (
    # The default feature map, elementwise_product, by absence of the key.
    Checkpoint("linear_attn_fp32", 3021, "float32", {**SMALL, "intermediate_size": 64}),
    Checkpoint(
        "linear_attn_elu_bf16",
        302,
        "bfloat16",
        {
            **WIDE,
            "feature_map": "elu",
            "norm_feature_map": True,
            "num_kv_heads": 2,
            "norm_eps": 1e-2,
            "intermediate_size": 64,
            "tie_word_embeddings": True,
        },
        {"norm_feature_map": False, "norm_eps": 1e-6, "feature_map": "relu"},
        {"q_proj.weight": gaussian(2.0), "k_proj.weight": gaussian(2.0)},
    ),
    Checkpoint(
        "linear_attn_hedgehog_fp32",
        303,
        "float32",
        {
            **SMALL,
            "feature_map": "hedgehog",
            "tie_feature_map_qk": True,
            "norm_feature_map": True,
            "norm_eps": 1e-2,
            "intermediate_size": 48,
        },
        {"norm_feature_map": False},
    ),
    Checkpoint(
        "linear_attn_dpfp_fp16",
        304,
        "float16",
        {
            **SMALL,
            "vocab_size": 160,
            "feature_map": "dpfp",
            "norm_q": True,
            "norm_k": True,
            "expand_v": 2.0,
            "norm_eps": 1e-5,
            "intermediate_size": 64,
        },
        {"norm_k": False, "norm_q": False},
    ),
    Checkpoint(
        "linear_attn_t2r_bf16",
        305,
        "bfloat16",
        {
            **SMALL,
            "feature_map": "t2r",
            "norm_k": True,
            "expand_k": 2.0,
            "intermediate_size": 96,
        },
        {"norm_k": False},
        {"layer.weight": gaussian(1.5)},
    ),
    Checkpoint(
        "linear_attn_relu_fp32",
        306,
        "float32",
        {
            **SMALL,
            "feature_map": "relu",
            "num_kv_heads": 1,
            "elementwise_affine": False,
            "norm_feature_map": True,
            "norm_eps": 1e-2,
            "intermediate_size": 64,
        },
        {"norm_feature_map": False, "feature_map": "identity"},
    ),
    Checkpoint(
        "linear_attn_identity_fp16",
        307,
        "float16",
        {
            **WIDE,
            "feature_map": "identity",
            "num_heads": 2,
            "expand_k": 0.5,
            "intermediate_size": 64,
            "tie_word_embeddings": True,
        },
    ),
)
