"""What flash-linear-attention reaches on the work of engine_bench: the same shape, on the same GPU.

Needs a GPU, PyTorch, Triton, transformers and flash-linear-attention:

    python3 tests/bench/fla_peer.py prefill:1:16384 generate:1:128 generate:64:128

Each case is KIND:BATCH:TOKENS. `prefill` is one forward pass that keeps the last row of logits, the median of
triton.testing.do_bench. `generate` is Hugging Face's generate() with sampling, from so many prompt tokens: the time
of 40 tokens less that of 8, over 32. The weights are random (GLA-1.3B: hidden 2048, 24 layers, 4 heads).
Prints one line of JSON a case.
"""

import json
import sys
import time

import torch
import triton
from fla.models import GLAConfig, GLAForCausalLM

VOCAB = 32000


def make_model() -> torch.nn.Module:
    config = GLAConfig(
        hidden_size=2048,
        num_hidden_layers=24,
        num_heads=4,
        vocab_size=VOCAB,
        fuse_cross_entropy=True,
        use_cache=True,
    )
    torch.set_default_dtype(torch.bfloat16)
    model = GLAForCausalLM(config).to("cuda").eval()
    torch.set_default_dtype(torch.float32)
    return model


def prefill_seconds(model: torch.nn.Module, ids: torch.Tensor) -> float:
    def forward() -> None:
        model(ids, use_cache=True, logits_to_keep=1)

    forward()
    torch.cuda.synchronize()
    return triton.testing.do_bench(forward, warmup=50, rep=500, return_mode="median") / 1e3


def step_seconds(model: torch.nn.Module, ids: torch.Tensor) -> float:
    seconds = {}
    for tokens in (8, 8, 40):  # the first compiles
        torch.cuda.synchronize()
        start = time.time()
        model.generate(
            ids, max_new_tokens=tokens, min_new_tokens=tokens, do_sample=True, pad_token_id=0
        )
        torch.cuda.synchronize()
        seconds[tokens] = time.time() - start
    return (seconds[40] - seconds[8]) / 32


@torch.inference_mode()
def main() -> None:
    torch.manual_seed(0)
    model = make_model()
    for case in sys.argv[1:]:
        kind, batch, tokens = case.split(":")
        ids = torch.randint(3, VOCAB, (int(batch), int(tokens)), device="cuda")
        if kind == "prefill":
            seconds, done = prefill_seconds(model, ids), ids.numel()
        elif kind == "generate":
            seconds, done = step_seconds(model, ids), ids.shape[0]
        else:
            sys.exit(f"fla_peer: no case is called {kind}")
        print(json.dumps({"case": case, "ms": seconds * 1e3, "tokens_per_s": done / seconds}))


if __name__ == "__main__":
    main()
