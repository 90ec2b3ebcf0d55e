"""The parts that the models share, in float64 NumPy, token by token."""

import numpy as np

from golden_file import Tensors, round_to


def sigmoid(x: np.ndarray) -> np.ndarray:
    """1 / (1 + e^-x), without overflow."""
    return 0.5 * (1 + np.tanh(0.5 * x))


def silu(x: np.ndarray) -> np.ndarray:
    """x sigmoid(x)."""
    return x * sigmoid(x)


def relu(x: np.ndarray) -> np.ndarray:
    """max(x, 0)."""
    return np.maximum(x, 0)


def softplus(x: np.ndarray) -> np.ndarray:
    """log(1 + e^x)."""
    return np.logaddexp(0, x)


def softmax(x: np.ndarray, axis: int) -> np.ndarray:
    """e^x over its sum along axis."""
    e = np.exp(x - x.max(axis, keepdims=True))
    return e / e.sum(axis, keepdims=True)


ACTIVATIONS = {
    "relu": relu,
    "sigmoid": sigmoid,
    "silu": silu,
    "swish": silu,
    "sqrelu": lambda x: relu(x) ** 2,
}


class Net:
    """The tensors of a checkpoint and the layers that read them by name.

    With rounding, the outputs of every layer are rounded to bfloat16, as an engine that keeps its
    activations so would.
    """

    def __init__(self, tensors: Tensors, rounding: bool = False) -> None:
        self.tensors, self.rounding = tensors, rounding

    def __getitem__(self, name: str) -> np.ndarray:
        return self.tensors[name]

    def get(self, name: str) -> np.ndarray | None:
        """The tensor, or None if the checkpoint has none."""
        return self.tensors.get(name)

    def round(self, x: np.ndarray) -> np.ndarray:
        """x, as an activation is kept."""
        return round_to(x, "bfloat16") if self.rounding else x

    def linear(self, name: str, x: np.ndarray) -> np.ndarray:
        """x W^T, and the bias if there is one."""
        y = x @ self[name + ".weight"].T
        bias = self.get(name + ".bias")
        return self.round(y if bias is None else y + bias)

    def affine(self, name: str, x: np.ndarray) -> np.ndarray:
        """x times the weight and plus the bias, each if there is one."""
        weight, bias = self.get(name + ".weight"), self.get(name + ".bias")
        x = x if weight is None else x * weight
        return self.round(x if bias is None else x + bias)

    def rms_norm(self, name: str, x: np.ndarray, eps: float) -> np.ndarray:
        """RMSNorm over the last dimension."""
        return self.affine(name, rms(x, eps))

    def layer_norm(self, name: str, x: np.ndarray, eps: float) -> np.ndarray:
        """LayerNorm over the last dimension."""
        return self.affine(name, rms(x - x.mean(-1, keepdims=True), eps))

    def conv(self, name: str, x: np.ndarray) -> np.ndarray:
        """Causal depthwise convolution over time, [T, C]; the last tap is the present."""
        taps = self[name + ".weight"][:, 0]
        size = taps.shape[1]
        past = np.concatenate([np.zeros((size - 1, x.shape[1])), x])
        y = sum(past[i : i + len(x)] * taps[:, i] for i in range(size))
        bias = self.get(name + ".bias")
        return self.round(y if bias is None else y + bias)


def rms(x: np.ndarray, eps: float) -> np.ndarray:
    """x over its root mean square along the last dimension."""
    return x / np.sqrt((x * x).mean(-1, keepdims=True) + eps)


def heads(x: np.ndarray, count: int) -> np.ndarray:
    """[T, count * D] to [T, count, D]."""
    return x.reshape(len(x), count, -1)


def flat(x: np.ndarray) -> np.ndarray:
    """[T, H, D] to [T, H * D]."""
    return x.reshape(len(x), -1)


def share(x: np.ndarray, count: int) -> np.ndarray:
    """[T, kv heads, D] to [T, count, D]: a shared head serves heads that follow each other."""
    return np.repeat(x, count // x.shape[1], axis=1)


def recurrence(
    q: np.ndarray,
    k: np.ndarray,
    v: np.ndarray,
    key_decay: np.ndarray | float = 1.0,
    value_decay: np.ndarray | float = 1.0,
    bonus: np.ndarray | None = None,
) -> np.ndarray:
    """S_t = diag(a_t) S_{t-1} diag(b_t) + k_t^T v_t; o_t = q_t S_t. q, k [T, H, K], v [T, H, V].

    The decays broadcast to k and to v. With a bonus u [H, K], o_t = q_t (S_{t-1} + diag(u) k_t^T
    v_t).
    """
    key_decay = np.broadcast_to(key_decay, k.shape)
    value_decay = np.broadcast_to(value_decay, v.shape)
    state = np.zeros((*k.shape[1:], v.shape[-1]))
    out = np.empty(v.shape)
    for t in range(len(q)):
        new = k[t][..., None] * v[t][:, None]
        read = state if bonus is None else state + bonus[..., None] * new
        state = key_decay[t][..., None] * state * value_decay[t][:, None] + new
        read = state if bonus is None else read
        out[t] = (q[t][:, None] @ read)[:, 0]
    return out


def rotate(x: np.ndarray, base: float) -> np.ndarray:
    """Rotary embedding of x [T, H, K] at positions 0, 1, …: halves are the pairs."""
    half = x.shape[-1] // 2
    angle = np.arange(len(x))[:, None, None] * base ** (-np.arange(half) / half)
    a, b = x[..., :half], x[..., half:]
    return np.concatenate(
        [a * np.cos(angle) - b * np.sin(angle), a * np.sin(angle) + b * np.cos(angle)], -1
    )


def swiglu_size(config: dict) -> int:
    """The MLP's width: given, or two thirds of hidden_ratio * hidden rounded up to 256."""
    if config["intermediate_size"] is not None:
        return config["intermediate_size"]
    width = int(config["hidden_size"] * (config["hidden_ratio"] or 4) * 2 / 3)
    return 256 * ((width + 255) // 256)


def fla_shapes(config: dict, mixer: dict[str, tuple[int, ...]]) -> dict[str, tuple[int, ...]]:
    """A model in flash-linear-attention's block style, given the shapes of one layer's attn."""
    hidden, mlp = config["hidden_size"], swiglu_size(config)
    out: dict[str, tuple[int, ...]] = {"model.embeddings.weight": (config["vocab_size"], hidden)}
    for layer in range(config["num_hidden_layers"]):
        p = f"model.layers.{layer}."
        out[p + "attn_norm.weight"] = (hidden,)
        out.update({f"{p}attn.{name}": shape for name, shape in mixer.items()})
        out[p + "mlp_norm.weight"] = (hidden,)
        out[p + "mlp.gate_proj.weight"] = (mlp, hidden)
        out[p + "mlp.up_proj.weight"] = (mlp, hidden)
        out[p + "mlp.down_proj.weight"] = (hidden, mlp)
    out["model.norm.weight"] = (hidden,)
    if not config["tie_word_embeddings"]:
        out["lm_head.weight"] = (config["vocab_size"], hidden)
    return out


def fla_logits(config: dict, net: Net, ids: list[int], mixer) -> np.ndarray:
    """The model of fla_shapes; mixer(prefix, layer, x) is its attn."""
    x = net["model.embeddings.weight"][ids]
    eps = config["norm_eps"]
    for layer in range(config["num_hidden_layers"]):
        p = f"model.layers.{layer}."
        x = net.round(x + mixer(p + "attn.", layer, net.rms_norm(p + "attn_norm", x, eps)))
        y = net.rms_norm(p + "mlp_norm", x, eps)
        y = silu(net.linear(p + "mlp.gate_proj", y)) * net.linear(p + "mlp.up_proj", y)
        x = net.round(x + net.linear(p + "mlp.down_proj", net.round(y)))
    head = "model.embeddings" if config["tie_word_embeddings"] else "lm_head"
    return net.rms_norm("model.norm", x, eps) @ net[head + ".weight"].T
