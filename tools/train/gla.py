"""A gated linear attention (GLA) language model in plain PyTorch, with the chunkwise form.

The model is the one that `model_type: gla` of flash-linear-attention names, in the settings of
models/demo: RMSNorm before mixer and MLP, per-channel forget gates, a per-head RMSNorm with a swish
output gate, SwiGLU, embeddings tied to the head. Parameter names are those of its checkpoints.

Shapes: B batch, T tokens, H heads, N chunks of C tokens, K key channels and V value channels a
head.
"""

import math
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

CHUNK = 16
MAX_EXPONENT = 80.0
GATE_NORMALIZER = 16.0
GATE_RANK = 16


@dataclass(frozen=True)
class GlaConfig:
    """Sizes of a model; the names are those of config.json."""

    vocab_size: int = 4096
    hidden_size: int = 384
    num_hidden_layers: int = 6
    num_heads: int = 3
    expand_k: float = 0.5
    expand_v: float = 1.0
    intermediate_size: int = 1024
    norm_eps: float = 1e-6


def gla_recurrent(q: Tensor, k: Tensor, v: Tensor, log_gate: Tensor) -> Tensor:
    """The definition, token by token: S = diag(exp(g_t)) S + k_t^T v_t, o_t = q_t S / sqrt(K).

    q, k, log_gate [B, H, T, K], v [B, H, T, V]; returns [B, H, T, V]. Slow: the oracle of
    gla_chunk.
    """
    state = q.new_zeros(*q.shape[:2], q.shape[-1], v.shape[-1])
    out = []
    for t in range(q.shape[2]):
        state = log_gate[:, :, t, :, None].exp() * state + k[:, :, t, :, None] * v[:, :, t, None, :]
        out.append((q[:, :, t, None, :] @ state).squeeze(2))
    return torch.stack(out, dim=2) * q.shape[-1] ** -0.5


def gla_chunk(q: Tensor, k: Tensor, v: Tensor, log_gate: Tensor) -> Tensor:
    """The same function chunkwise, in float32; T is a multiple of CHUNK.

    Inside a chunk the decay from token j to token i, exp(G_i - G_j) of cumulated log gates G, is
    split at the middle of the chunk into a factor of q and a factor of k. Both stay in float32's
    range while the log gates of half a chunk (8 tokens) add up to more than -80, that is -10 a
    token on average. Chunks are this short because trained gates use the room: -4 a token is common
    in some channels. Beyond the limit the exponents are cut, so that nothing overflows. Between
    chunks all exponents are at most 0.
    """
    batch, heads, length, key_dim = q.shape
    n = length // CHUNK
    if n * CHUNK != length:
        raise ValueError(f"length {length} is not a multiple of {CHUNK}")
    q, k, v, g = (x.float().reshape(batch, heads, n, CHUNK, -1) for x in (q, k, v, log_gate))
    q = q * key_dim**-0.5
    g = g.cumsum(dim=3)
    total = g[..., -1, :]
    from_middle = (g - g[..., CHUNK // 2, None, :]).clamp(-MAX_EXPONENT, MAX_EXPONENT)

    scores = (q * from_middle.exp()) @ (k * (-from_middle).exp()).transpose(-1, -2)
    causal = torch.ones(CHUNK, CHUNK, dtype=torch.bool, device=q.device).tril()
    # Selected, not multiplied: a masked score may be infinite.
    inside = torch.where(causal, scores, 0.0) @ v

    # State before chunk m: the sum over chunks c < m of diag(exp(E_{m-1} - E_c)) U_c, with E the
    # log gates cumulated over chunks and U_c what chunk c adds to the state.
    added = (k * (total[..., None, :] - g).exp()).transpose(-1, -2) @ v
    ends = total.cumsum(dim=2)
    before = F.pad(ends[:, :, :-1], (0, 0, 1, 0))
    exponent = before.transpose(2, 3)[..., :, None] - ends.transpose(2, 3)[..., None, :]
    earlier = torch.ones(n, n, dtype=torch.bool, device=q.device).tril(-1)
    decay = exponent.masked_fill(~earlier, -math.inf).exp()
    # The sum over c as one product [N, N] x [N, V] for every batch, head and key channel.
    states = decay @ added.transpose(2, 3)
    across = (q * g.exp()) @ states.transpose(2, 3)
    return (inside + across).reshape(batch, heads, length, -1)


class RMSNorm(nn.Module):
    """x / sqrt(mean(x^2) + eps) * weight over the last dimension, in float32."""

    def __init__(self, size: int, eps: float) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(size))
        self.eps = eps

    def forward(self, x: Tensor) -> Tensor:
        """Normalises; the result has x's type."""
        return F.rms_norm(x.float(), self.weight.shape, self.weight, self.eps).to(x.dtype)


class GatedLinearAttention(nn.Module):
    """The mixer: projections, gates, the recurrence, norm and output gate."""

    def __init__(self, config: GlaConfig) -> None:
        super().__init__()
        hidden, self.heads = config.hidden_size, config.num_heads
        key_dim, value_dim = round(hidden * config.expand_k), round(hidden * config.expand_v)
        self.q_proj = nn.Linear(hidden, key_dim, bias=False)
        self.k_proj = nn.Linear(hidden, key_dim, bias=False)
        self.v_proj = nn.Linear(hidden, value_dim, bias=False)
        self.g_proj = nn.Linear(hidden, value_dim, bias=False)
        self.gk_proj = nn.Sequential(
            nn.Linear(hidden, GATE_RANK, bias=False), nn.Linear(GATE_RANK, key_dim, bias=True)
        )
        self.g_norm_swish_gate = RMSNorm(value_dim // self.heads, config.norm_eps)
        self.o_proj = nn.Linear(value_dim, hidden, bias=False)

    def split(self, x: Tensor) -> Tensor:
        """[B, T, H * D] to [B, H, T, D]."""
        return x.unflatten(-1, (self.heads, -1)).transpose(1, 2)

    def forward(self, x: Tensor) -> Tensor:
        """x [B, T, hidden] to the same shape."""
        q, k, v = (self.split(p(x)) for p in (self.q_proj, self.k_proj, self.v_proj))
        log_gate = F.logsigmoid(self.split(self.gk_proj(x)).float()) / GATE_NORMALIZER
        with torch.autocast(x.device.type, enabled=False):
            o = gla_chunk(q, k, v, log_gate)
        o = self.g_norm_swish_gate(o.to(x.dtype)) * F.silu(self.split(self.g_proj(x)))
        return self.o_proj(o.transpose(1, 2).flatten(2))


class GatedMlp(nn.Module):
    """SwiGLU."""

    def __init__(self, config: GlaConfig) -> None:
        super().__init__()
        self.gate_proj = nn.Linear(config.hidden_size, config.intermediate_size, bias=False)
        self.up_proj = nn.Linear(config.hidden_size, config.intermediate_size, bias=False)
        self.down_proj = nn.Linear(config.intermediate_size, config.hidden_size, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """x [B, T, hidden] to the same shape."""
        return self.down_proj(F.silu(self.gate_proj(x)) * self.up_proj(x))


class Block(nn.Module):
    """Mixer and MLP, each on a normalised input and added to the residual."""

    def __init__(self, config: GlaConfig, dropout: float) -> None:
        super().__init__()
        self.attn_norm = RMSNorm(config.hidden_size, config.norm_eps)
        self.attn = GatedLinearAttention(config)
        self.mlp_norm = RMSNorm(config.hidden_size, config.norm_eps)
        self.mlp = GatedMlp(config)
        self.dropout = dropout

    def forward(self, x: Tensor) -> Tensor:
        """x [B, T, hidden] to the same shape."""
        x = x + F.dropout(self.attn(self.attn_norm(x)), self.dropout, self.training)
        return x + F.dropout(self.mlp(self.mlp_norm(x)), self.dropout, self.training)


class Decoder(nn.Module):
    """Embeddings, blocks, final norm (the `model.` part of a checkpoint)."""

    def __init__(self, config: GlaConfig, dropout: float) -> None:
        super().__init__()
        self.embeddings = nn.Embedding(config.vocab_size, config.hidden_size)
        self.layers = nn.ModuleList(Block(config, dropout) for _ in range(config.num_hidden_layers))
        self.norm = RMSNorm(config.hidden_size, config.norm_eps)
        self.dropout = dropout

    def forward(self, ids: Tensor) -> Tensor:
        """ids [B, T] to normalised hidden states [B, T, hidden]."""
        x = F.dropout(self.embeddings(ids), self.dropout, self.training)
        for layer in self.layers:
            x = layer(x)
        return F.dropout(self.norm(x), self.dropout, self.training)


class GlaLanguageModel(nn.Module):
    """The whole model; logits are read with the embedding matrix."""

    def __init__(self, config: GlaConfig, dropout: float = 0.0) -> None:
        super().__init__()
        self.config = config
        self.model = Decoder(config, dropout)
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Normal(0, 0.02), the last matrix of a branch smaller by sqrt(2 * layers).

        Gate biases start spread over [0, 6], so that channels begin with memories of about 20 to
        6,000 tokens instead of all with 23.
        """
        depth = math.sqrt(2 * self.config.num_hidden_layers)
        for name, parameter in self.named_parameters():
            if name.endswith("gk_proj.1.bias"):
                nn.init.uniform_(parameter, 0.0, 6.0)
            elif parameter.dim() == 2:
                last = name.endswith(("o_proj.weight", "down_proj.weight"))
                nn.init.normal_(parameter, std=0.02 / depth if last else 0.02)

    def forward(self, ids: Tensor) -> Tensor:
        """ids [B, T], T a multiple of CHUNK, to logits [B, T, vocab]."""
        return F.linear(self.model(ids), self.model.embeddings.weight)
