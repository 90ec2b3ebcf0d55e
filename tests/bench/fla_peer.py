"""What flash-linear-attention reaches on the work of engine_bench and kernels_bench: the same shape, on the same GPU.

Needs a GPU, PyTorch, Triton, transformers and flash-linear-attention:

    python3 tests/bench/fla_peer.py prefill:1:16384 generate:1:128 chunk:1:2048 step:64:1

Each case is KIND:BATCH:TOKENS. `prefill` is one forward pass that keeps the last row of logits, the median of
triton.testing.do_bench. `generate` is Hugging Face's generate() with sampling, from so many prompt tokens: the time
of 40 tokens less that of 8, over 32. The weights are random (GLA-1.3B: hidden 2048, 24 layers, 4 heads).
`chunk` is its kernel chunk_gla on sequences of so many tokens, `step` fused_recurrent_gla, both with states in and
out (4 heads, K 256, V 512, bfloat16, states float32): calls one after the other in a CUDA graph, so that no launch
is timed, each with other operands than the one before. Prints one line of JSON a case.
"""

import json
import sys
import time

import torch
import torch.nn.functional as F
import triton
from fla.models import GLAConfig, GLAForCausalLM
from fla.ops.gla import chunk_gla, fused_recurrent_gla

VOCAB = 32000
HEADS, KEY_DIM, VALUE_DIM = 4, 256, 512  # of GLA-1.3B
ROTATION = 512 << 20  # bytes of operands, more than a cache holds


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


def kernel_operands(sequences: int, length: int) -> dict:
    shape = (sequences, length, HEADS)  # of one length: cu_seqlens would have it wait for the host
    row = {"device": "cuda", "dtype": torch.bfloat16}
    return {
        "q": torch.randn(*shape, KEY_DIM, **row),
        "k": torch.randn(*shape, KEY_DIM, **row),
        "v": torch.randn(*shape, VALUE_DIM, **row),
        "gate": F.logsigmoid(torch.randn(*shape, KEY_DIM, device="cuda")) / 16,
        "initial_state": torch.randn(sequences, HEADS, KEY_DIM, VALUE_DIM, device="cuda"),
    }


def kernel_seconds(kernel, gate: str, sequences: int, length: int) -> float:
    """Of one call of `kernel`, which takes the gates as `gate`."""
    first = kernel_operands(sequences, length)
    size = sum(tensor.numel() * tensor.element_size() for tensor in first.values())
    copies = [first] + [kernel_operands(sequences, length) for _ in range(max(1, ROTATION // size))]
    copies = copies[:32]

    def call_all() -> None:
        for operands in copies:
            arguments = dict(operands)
            arguments[gate] = arguments.pop("gate")
            kernel(**arguments, output_final_state=True)

    for _ in range(2):  # compiles and tunes
        call_all()
    torch.cuda.synchronize()
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        call_all()
    median = triton.testing.do_bench(graph.replay, warmup=50, rep=300, return_mode="median")
    return median / 1e3 / len(copies)


@torch.inference_mode()
def main() -> None:
    torch.manual_seed(0)
    model = None
    for case in sys.argv[1:]:
        kind, batch, tokens = case.split(":")
        if kind in ("chunk", "step"):
            kernel, gate = (chunk_gla, "g") if kind == "chunk" else (fused_recurrent_gla, "gk")
            seconds = kernel_seconds(kernel, gate, int(batch), int(tokens))
            print(json.dumps({"case": case, "ms": seconds * 1e3}))
            continue
        model = model or make_model()
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
