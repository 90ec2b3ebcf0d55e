"""xLSTM's mLSTM as transformers' xLSTMForCausalLM has it (arXiv 2405.04517 and 2503.13427)."""

import numpy as np

from golden_file import Tensors
from reference.blocks import Net, flat, heads, rms, sigmoid, silu
from reference.checkpoint import Checkpoint, Rule, gaussian, normal, uniform

SOURCE = ("transformers", "xLSTMForCausalLM", "xLSTMConfig")
DEFAULTS = {
    "use_bias": False,
    "norm_eps": 1e-6,
    "qk_dim_factor": 0.5,
    "v_dim_factor": 1.0,
    "eps": 1e-6,
    "ffn_proj_factor": 2.667,
    "ffn_round_up_to_multiple_of": 64,
    "gate_soft_cap": 15.0,
    "output_logit_soft_cap": 30.0,
    "weight_mode": "single",
    "tie_word_embeddings": False,
}


def fused_gates(rng: np.random.Generator, shape: tuple[int, ...]) -> np.ndarray:
    """The biases of the input gates, then of the forget gates."""
    half = (shape[0] // 2,)
    return np.concatenate([INPUT_BIAS(rng, half), FORGET_BIAS(rng, half)])


INPUT_BIAS, FORGET_BIAS = normal(-0.5, 1.5), uniform(0, 5)
RULES: dict[str, Rule] = {
    "igate_preact.bias": INPUT_BIAS,
    "fgate_preact.bias": FORGET_BIAS,
    "ifgate_preact.bias": fused_gates,
    "igate_preact.weight": gaussian(1.5),
    "ifgate_preact.weight": gaussian(1.5),
}


def widths(config: dict) -> tuple[int, int, int]:
    """All heads' keys, all heads' values, and the feed-forward's width."""
    hidden, multiple = config["hidden_size"], config["ffn_round_up_to_multiple_of"]
    wide = hidden * config["ffn_proj_factor"]
    mlp = int((wide + multiple - 1) // multiple * multiple)
    return int(hidden * config["qk_dim_factor"]), int(hidden * config["v_dim_factor"]), mlp


def block_shapes(config: dict) -> dict[str, tuple[int, ...]]:
    """The tensors of one block."""
    hidden, count = config["hidden_size"], config["num_heads"]
    key, value, mlp = widths(config)
    if config["weight_mode"] == "fused":
        rows = {
            "mlstm_layer.qkv_opreact": 2 * key + 2 * value,
            "mlstm_layer.ifgate_preact": 2 * count,
            "ffn.proj_up_gate_z": 2 * mlp,
        }
    else:
        rows = {
            "mlstm_layer.q": key,
            "mlstm_layer.k": key,
            "mlstm_layer.v": value,
            "mlstm_layer.ogate_preact": value,
            "mlstm_layer.igate_preact": count,
            "mlstm_layer.fgate_preact": count,
            "ffn.proj_up_gate": mlp,
            "ffn.proj_up": mlp,
        }
    out: dict[str, tuple[int, ...]] = {name + ".weight": (n, hidden) for name, n in rows.items()}
    out["mlstm_layer.out_proj.weight"] = (hidden, value)
    out["ffn.proj_down.weight"] = (hidden, mlp)
    out["norm_mlstm.weight"] = out["norm_ffn.weight"] = (hidden,)
    out["mlstm_layer.multihead_norm.weight"] = (value,)
    biased = [
        n for n in out if config["use_bias"] or n.endswith("fgate_preact.weight") or "igate" in n
    ]
    out.update({name.removesuffix("weight") + "bias": out[name][:1] for name in biased})
    return out


def shapes(config: dict) -> dict[str, tuple[int, ...]]:
    """Names and shapes of the tensors."""
    table = (config["vocab_size"], config["hidden_size"])
    out: dict[str, tuple[int, ...]] = {"backbone.embeddings.weight": table}
    for layer in range(config["num_hidden_layers"]):
        for name, shape in block_shapes(config).items():
            out[f"backbone.blocks.{layer}.{name}"] = shape
    out["backbone.out_norm.weight"] = (config["hidden_size"],)
    out["lm_head.weight"] = table
    return out


def cap(x: np.ndarray, limit: float) -> np.ndarray:
    """Soft cap: between -limit and limit."""
    return limit * np.tanh(x / limit)


def mlstm(
    q: np.ndarray, k: np.ndarray, v: np.ndarray, i: np.ndarray, f: np.ndarray, eps: float
) -> np.ndarray:
    """q, k [T, H, K], v [T, H, V], gates before their activations [T, H]."""
    scale = q.shape[-1] ** -0.5
    memory, total = np.zeros((*k.shape[1:], v.shape[-1])), np.zeros(k.shape[1:])
    level = np.zeros(i.shape[1])
    out = np.empty(v.shape)
    for t in range(len(q)):
        kept = -np.logaddexp(0, -f[t]) + level
        level = np.maximum(kept, i[t])
        keep, take = np.exp(kept - level)[:, None], np.exp(i[t] - level)[:, None]
        memory = keep[..., None] * memory + (take * k[t])[..., None] * v[t][:, None]
        total = keep * total + take * k[t]
        weight = np.abs((q[t] * total).sum(-1)) * scale
        weight = np.maximum(weight, np.exp(-level))[:, None] + eps
        out[t] = (q[t][:, None] @ memory)[:, 0] * scale / weight
    return out


def mixer(config: dict, net: Net, p: str, x: np.ndarray) -> np.ndarray:
    """The block's mLSTM."""
    count, (key, value, _) = config["num_heads"], widths(config)
    if config["weight_mode"] == "fused":
        parts = [key, 2 * key, 2 * key + value]
        q, k, v, o = np.split(net.linear(p + "qkv_opreact", x), parts, axis=-1)
        i, f = np.split(net.linear(p + "ifgate_preact", x), 2, axis=-1)
    else:
        q, k, v, o = (net.linear(p + name, x) for name in ("q", "k", "v", "ogate_preact"))
        i, f = net.linear(p + "igate_preact", x), net.linear(p + "fgate_preact", x)
    q, k, v = heads(q, count), heads(k, count), heads(v, count)
    i, f = cap(i, config["gate_soft_cap"]), cap(f, config["gate_soft_cap"])
    y = net.round(mlstm(q, k, v, i, f, config["eps"]))
    y = net.affine(
        p + "multihead_norm", flat(rms(y - y.mean(-1, keepdims=True), config["norm_eps"]))
    )
    return net.linear(p + "out_proj", net.round(sigmoid(o) * y))


def feed_forward(config: dict, net: Net, p: str, x: np.ndarray) -> np.ndarray:
    """The block's second sublayer."""
    if config["weight_mode"] == "fused":
        gate, up = np.split(net.linear(p + "proj_up_gate_z", x), 2, axis=-1)
    else:
        gate, up = net.linear(p + "proj_up_gate", x), net.linear(p + "proj_up", x)
    return net.linear(p + "proj_down", net.round(silu(gate) * up))


def logits(config: dict, tensors: Tensors, ids: list[int], rounding: bool = False) -> np.ndarray:
    """Logits [T, vocab]."""
    net, eps = Net(tensors, rounding), config["norm_eps"]
    x = net["backbone.embeddings.weight"][ids]
    for layer in range(config["num_hidden_layers"]):
        p = f"backbone.blocks.{layer}."
        y = net.rms_norm(p + "norm_mlstm", x, eps)
        x = net.round(x + mixer(config, net, p + "mlstm_layer.", y))
        y = net.rms_norm(p + "norm_ffn", x, eps)
        x = net.round(x + feed_forward(config, net, p + "ffn.", y))
    x = net.rms_norm("backbone.out_norm", x, eps)
    return cap(x @ net["lm_head.weight"].T, config["output_logit_soft_cap"])


CHECKPOINTS = (
    # The factors of xLSTM-7b: keys of half the values' width, 2.667 for the feed-forward.
    Checkpoint(
        "xlstm_fp16",
        901,
        "float16",
        {"vocab_size": 128, "hidden_size": 32, "num_hidden_layers": 2, "num_heads": 1},
        {"norm_eps": 1e-2},
    ),
    # Caps that are felt, and both epsilons: with a small one the norm hides the normaliser.
    Checkpoint(
        "xlstm_capped_fp32",
        902,
        "float32",
        {
            "vocab_size": 160,
            "hidden_size": 32,
            "num_hidden_layers": 2,
            "num_heads": 2,
            "qk_dim_factor": 1.0,
            "ffn_proj_factor": 1.5,
            "ffn_round_up_to_multiple_of": 16,
            "gate_soft_cap": 2.0,
            "output_logit_soft_cap": 0.3,
            "norm_eps": 0.1,
            "eps": 0.3,
        },
        {"gate_soft_cap": 15.0, "output_logit_soft_cap": 30.0, "norm_eps": 1e-6, "eps": 1e-6},
    ),
    Checkpoint(
        "xlstm_fused_bias_bf16",
        903,
        "bfloat16",
        {
            "vocab_size": 128,
            "hidden_size": 64,
            "num_hidden_layers": 2,
            "num_heads": 2,
            "use_bias": True,
            "norm_eps": 1e-2,
            "ffn_proj_factor": 1.0,
            "ffn_round_up_to_multiple_of": 32,
            "weight_mode": "fused",
        },
        {"norm_eps": 1e-6},
    ),
)
