"""Prints samples of a model directory.

    python3 sample.py MODEL_DIR [--prompt TEXT ...] [--temperature 0.0 0.7 0.9] [--tokens 160]
    [--seed 1]

Plain, one token at a time with the recurrent form: it shows what the model says without any part of
the server. Temperature 0 takes the most probable token; others draw from the top --top-p of the
probability. A sample ends at end of text.
"""

import argparse
from pathlib import Path

import torch
import torch.nn.functional as F
from tokenizers import Tokenizer
from torch import Tensor, nn

from checkpoint import load_directory
from gla import GATE_NORMALIZER, GatedLinearAttention, GlaLanguageModel
from tokens import END_OF_TEXT_ID

PROMPTS = (
    "It was a truth which Mrs. Dashwood",
    '"My dear Mr. Bennet," said his lady,',
    "Emma was not at all surprised",
    "The captain stood upon the deck and",
    "And it came to pass in those days, that",
)


def pick(logits: Tensor, temperature: float, top_p: float, generator: torch.Generator) -> int:
    """One token from logits [vocab]."""
    if temperature == 0:
        return int(logits.argmax())
    p, ids = (logits / temperature).softmax(-1).sort(descending=True)
    keep = (p.cumsum(0) - p) < top_p
    return int(ids[torch.multinomial(p * keep, 1, generator=generator)])


def mix(layer: GatedLinearAttention, x: Tensor, state: Tensor) -> Tensor:
    """The mixer for one token x [hidden]; updates state [H, K, V] in place."""
    q, k, v, g = (p(x).unflatten(0, (layer.heads, -1)) for p in projections(layer))
    log_gate = F.logsigmoid(layer.gk_proj(x)).unflatten(0, (layer.heads, -1)) / GATE_NORMALIZER
    state.mul_(log_gate.exp()[:, :, None]).add_(k[:, :, None] * v[:, None, :])
    o = (q[:, None, :] @ state)[:, 0] * q.shape[-1] ** -0.5
    return layer.o_proj((layer.g_norm_swish_gate(o) * F.silu(g)).flatten())


def projections(layer: GatedLinearAttention) -> tuple[nn.Linear, ...]:
    """Of queries, keys, values and the output gate."""
    return layer.q_proj, layer.k_proj, layer.v_proj, layer.g_proj


def step(model: GlaLanguageModel, token: int, states: list[Tensor]) -> Tensor:
    """Logits [vocab] after one more token; updates the states."""
    decoder = model.model
    x = decoder.embeddings.weight[token]
    for layer, state in zip(decoder.layers, states, strict=True):
        x = x + mix(layer.attn, layer.attn_norm(x), state)
        x = x + layer.mlp(layer.mlp_norm(x))
    return decoder.embeddings.weight @ decoder.norm(x)


@torch.no_grad()
def sample(
    model: GlaLanguageModel, ids: list[int], count: int, temperature: float, top_p: float, seed: int
) -> list[int]:
    """At most `count` tokens that follow `ids`, without the end of text."""
    c, device = model.config, model.model.norm.weight.device
    key, value = round(c.hidden_size * c.expand_k), round(c.hidden_size * c.expand_v)
    shape = (c.num_heads, key // c.num_heads, value // c.num_heads)
    states = [torch.zeros(shape, device=device) for _ in range(c.num_hidden_layers)]
    generator = torch.Generator().manual_seed(seed)
    for token in ids:
        logits = step(model, token, states)
    out: list[int] = []
    while len(out) < count:
        token = pick(logits.cpu(), temperature, top_p, generator)
        if token == END_OF_TEXT_ID:
            break
        out.append(token)
        logits = step(model, token, states)
    return out


def main() -> None:
    """Prints one sample for each prompt and temperature."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("model", type=Path)
    parser.add_argument("--prompt", nargs="*", default=PROMPTS)
    parser.add_argument("--temperature", type=float, nargs="*", default=[0.0, 0.7, 0.9])
    parser.add_argument("--top-p", type=float, default=0.95)
    parser.add_argument("--tokens", type=int, default=160)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--device", default="cpu")
    args = parser.parse_args()

    tokenizer = Tokenizer.from_file(str(args.model / "tokenizer.json"))
    model = load_directory(args.model, args.device)
    for temperature in args.temperature:
        for prompt in args.prompt:
            ids = tokenizer.encode(prompt).ids
            new = sample(model, ids, args.tokens, temperature, args.top_p, args.seed)
            print(
                f"--- temperature {temperature}: {prompt!r}\n{tokenizer.decode(ids + new)}\n",
                flush=True,
            )


if __name__ == "__main__":
    main()
