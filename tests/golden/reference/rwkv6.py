"""RWKV-6 as flash-linear-attention's RWKV6ForCausalLM has it (arXiv 2404.05892)."""

import numpy as np

from golden_file import Tensors
from reference.blocks import ACTIVATIONS, Net, flat, heads, recurrence, rms, sigmoid, silu
from reference.checkpoint import Checkpoint, Rule, gaussian, normal, uniform

SOURCE = ("fla.models", "RWKV6ForCausalLM", "RWKV6Config")
DEFAULTS = {
    "expand_k": 0.5,
    "expand_v": 1.0,
    "hidden_ratio": 3.5,
    "intermediate_size": None,
    "num_heads": 4,
    "proj_low_rank_dim": 32,
    "gate_low_rank_dim": 64,
    "hidden_act": "sqrelu",
    "norm_first": True,
    "norm_bias": True,
    "norm_eps": 1e-5,
    "tie_word_embeddings": False,
}
RULES: dict[str, Rule] = {
    ".mu": uniform(0, 1),
    "x_bias": uniform(0, 1),
    "x_proj.2.weight": gaussian(2.0),
    "w_proj.linear.lora.2.bias": uniform(-5, 0.5),  # Forgets between 0.7 % and 80 % a token.
    "bonus": normal(0, 0.7),
    "ffn.value.weight": gaussian(0.7),
}


def mlp_size(config: dict) -> int:
    """The channel mix's width."""
    if config["intermediate_size"] is not None:
        return config["intermediate_size"]
    width = int(config["hidden_size"] * (config["hidden_ratio"] or 3.5))
    return 32 * ((width + 31) // 32)


def mixer_shapes(config: dict) -> dict[str, tuple[int, ...]]:
    """The tensors of one layer's time mix."""
    hidden, count = config["hidden_size"], config["num_heads"]
    key, value = round(hidden * config["expand_k"]), round(hidden * config["expand_v"])
    rank, gate = config["proj_low_rank_dim"], config["gate_low_rank_dim"]
    return {
        "x_proj.0.linear.weight": (5 * rank, hidden),
        "x_proj.0.mu": (hidden,),
        "x_proj.2.weight": (hidden, 5 * rank),
        "x_bias": (5, hidden),
        "r_proj.linear.weight": (key, hidden),
        "w_proj.linear.lora.0.weight": (gate, hidden),
        "w_proj.linear.lora.2.weight": (key, gate),
        "w_proj.linear.lora.2.bias": (key,),
        "k_proj.linear.weight": (key, hidden),
        "v_proj.linear.weight": (value, hidden),
        "g_proj.linear.weight": (value, hidden),
        "bonus": (count, key // count),
        "g_norm.weight": (value,),
        "g_norm.bias": (value,),
        "o_proj.weight": (hidden, value),
    }


def shapes(config: dict) -> dict[str, tuple[int, ...]]:
    """Names and shapes of the tensors."""
    hidden, mlp = config["hidden_size"], mlp_size(config)
    out: dict[str, tuple[int, ...]] = {"model.embeddings.weight": (config["vocab_size"], hidden)}

    def norm(name: str) -> None:
        out[name + ".weight"] = (hidden,)
        if config["norm_bias"]:
            out[name + ".bias"] = (hidden,)

    for layer in range(config["num_hidden_layers"]):
        p = f"model.layers.{layer}."
        if layer == 0 and config["norm_first"]:
            norm(p + "pre_norm")
        norm(p + "attn_norm")
        out.update({f"{p}attn.{name}": shape for name, shape in mixer_shapes(config).items()})
        norm(p + "ffn_norm")
        out[p + "ffn.key.linear.weight"] = (mlp, hidden)
        out[p + "ffn.key.mu"] = (hidden,)
        out[p + "ffn.value.weight"] = (hidden, mlp)
        out[p + "ffn.receptance.linear.weight"] = (hidden, hidden)
        out[p + "ffn.receptance.mu"] = (hidden,)
    norm("model.norm")
    if not config["tie_word_embeddings"]:
        out["lm_head.weight"] = (config["vocab_size"], hidden)
    return out


def shift(x: np.ndarray) -> np.ndarray:
    """What the token before has more; there are zeros before the first."""
    return np.concatenate([np.zeros_like(x[:1]), x[:-1]]) - x


def time_mix(config: dict, net: Net, p: str, x: np.ndarray) -> np.ndarray:
    """The mixer over tokens."""
    count, rank = config["num_heads"], config["proj_low_rank_dim"]
    delta = net.round(shift(x))
    low = np.tanh(net.linear(p + "x_proj.0.linear", net.round(x + delta * net[p + "x_proj.0.mu"])))
    low = net.round(low).reshape(len(x), 5, rank)
    weight = net[p + "x_proj.2.weight"].reshape(-1, 5, rank)
    mix = net.round(np.einsum("tnr,hnr->tnh", low, weight)) + net[p + "x_bias"]
    r, w, k, v, g = (net.round(x + delta * mix[:, n]) for n in range(5))
    r = heads(net.linear(p + "r_proj.linear", r), count)
    w = net.round(np.tanh(net.linear(p + "w_proj.linear.lora.0", w)))
    w = heads(net.linear(p + "w_proj.linear.lora.2", w), count)
    k = heads(net.linear(p + "k_proj.linear", k), count)
    v = heads(net.linear(p + "v_proj.linear", v), count)
    g = net.linear(p + "g_proj.linear", g)
    o = recurrence(r, k, v, np.exp(-np.exp(w)), bonus=net[p + "bonus"])
    o = flat(rms(o - o.mean(-1, keepdims=True), config["norm_eps"]))
    o = net.affine(p + "g_norm", o) * silu(g)
    return net.linear(p + "o_proj", net.round(o))


def channel_mix(config: dict, net: Net, p: str, x: np.ndarray) -> np.ndarray:
    """The mixer over channels."""
    delta = net.round(shift(x))
    k = net.linear(p + "key.linear", net.round(x + delta * net[p + "key.mu"]))
    k = net.linear(p + "value", net.round(ACTIVATIONS[config["hidden_act"]](k)))
    r = net.linear(p + "receptance.linear", net.round(x + delta * net[p + "receptance.mu"]))
    return sigmoid(r) * k


def logits(config: dict, tensors: Tensors, ids: list[int], rounding: bool = False) -> np.ndarray:
    """Logits [T, vocab]."""
    net, eps = Net(tensors, rounding), config["norm_eps"]
    x = net["model.embeddings.weight"][ids]
    for layer in range(config["num_hidden_layers"]):
        p = f"model.layers.{layer}."
        if layer == 0 and config["norm_first"]:
            x = net.layer_norm(p + "pre_norm", x, eps)
        y = net.layer_norm(p + "attn_norm", x, eps)
        x = net.round(x + time_mix(config, net, p + "attn.", y))
        y = net.layer_norm(p + "ffn_norm", x, eps)
        x = net.round(x + channel_mix(config, net, p + "ffn.", y))
    head = "model.embeddings" if config["tie_word_embeddings"] else "lm_head"
    return net.layer_norm("model.norm", x, eps) @ net[head + ".weight"].T


CHECKPOINTS = (
    Checkpoint(
        "rwkv6_fp32",
        401,
        "float32",
        {
            "vocab_size": 128,
            "hidden_size": 32,
            "num_hidden_layers": 2,
            "num_heads": 1,
            "proj_low_rank_dim": 8,
            "gate_low_rank_dim": 16,
        },
        {"norm_first": False, "hidden_act": "relu"},
    ),
    # Neither norm biases nor a norm of the embeddings.
    Checkpoint(
        "rwkv6_unbiased_relu_bf16",
        4024,
        "bfloat16",
        {
            "vocab_size": 128,
            "hidden_size": 48,
            "num_hidden_layers": 2,
            "num_heads": 3,
            "expand_k": 1.0,
            "proj_low_rank_dim": 8,
            "gate_low_rank_dim": 16,
            "norm_first": False,
            "norm_bias": False,
            "hidden_act": "relu",
            "intermediate_size": 96,
            "tie_word_embeddings": True,
        },
        {"hidden_act": "sqrelu"},
    ),
    # Some channels forget all but e^-12 of their state at every token.
    Checkpoint(
        "rwkv6_forgetful_fp16",
        403,
        "float16",
        {
            "vocab_size": 160,
            "hidden_size": 32,
            "num_hidden_layers": 2,
            "num_heads": 2,
            "expand_k": 1.0,
            "expand_v": 2.0,
            "proj_low_rank_dim": 16,
            "gate_low_rank_dim": 8,
            "norm_eps": 5e-2,
            "intermediate_size": 64,
        },
        {"norm_eps": 1e-5, "norm_first": False},
        {"w_proj.linear.lora.2.bias": uniform(-5, 2.5)},
    ),
)
