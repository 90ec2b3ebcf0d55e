#!/usr/bin/env python3
"""What a token costs a model of softmax attention, against the length of its context, on one GPU.

    python3 tests/bench/softmax_peer.py [--lengths 1024,...,131072] [--batches 1,16] > softmax.jsonl

The peer of `engine_bench --context` for GLA-1.3B: a Llama of the same 24 layers, width 2048 and 1.37 G weights in
bfloat16, 16 heads of 128 with a key and a value each, an MLP of 5,632, random weights. A step reads one token of every
sequence, appends its keys and values to the cache, which holds so many tokens, and takes the likeliest next one;
positions are left out, which favours it. All of a step is one CUDA graph. Attention is
torch.nn.functional.scaled_dot_product_attention by whichever backend is fastest at that length; "attention_us" is
its part alone: what no model with this cache goes below. Where the caches of all layers do not fit the GPU, layers take
turns with those that do, far more than its caches hold, and "fits" is false: such a step cannot be run.

Needs PyTorch and a GPU. Prints one line of JSON a case; tests/bench/context_cost.py draws it.
"""
import argparse
import json
import sys

import torch
import torch.nn.functional as F
from torch.nn.attention import SDPBackend, sdpa_kernel

LAYERS, WIDTH, HEADS, HEAD_DIM, INNER, VOCAB = 24, 2048, 16, 128, 5632, 32000
BACKENDS = {"flash": SDPBackend.FLASH_ATTENTION, "cudnn": SDPBackend.CUDNN_ATTENTION,
            "efficient": SDPBackend.EFFICIENT_ATTENTION}
MEMORY_SHARE = 0.9  # of what is free, that caches may take
WARMUPS, REPLAYS = 3, 20  # of a graph


def matrix(rows, cols):
    return torch.randn(rows, cols, device="cuda", dtype=torch.bfloat16) / cols ** 0.5


class Layer:
    def __init__(self):
        self.norms = torch.ones(2, WIDTH, device="cuda", dtype=torch.bfloat16)
        self.qkv, self.out = matrix(3 * WIDTH, WIDTH), matrix(WIDTH, WIDTH)
        self.up, self.down = matrix(2 * INNER, WIDTH), matrix(WIDTH, INNER)

    def matrices(self):
        return self.qkv, self.out, self.up, self.down


class Model:
    def __init__(self):
        self.embedding, self.head = matrix(VOCAB, WIDTH), matrix(VOCAB, WIDTH)
        self.norm = torch.ones(WIDTH, device="cuda", dtype=torch.bfloat16)
        self.layers = [Layer() for _ in range(LAYERS)]

    def parameters(self):
        layers = sum(m.numel() for layer in self.layers for m in layer.matrices())
        return layers + self.embedding.numel() + self.head.numel()

    def step(self, tokens, caches):
        """Reads tokens [B], and puts the likeliest next ones in their place."""
        x = self.embedding[tokens]
        for number, layer in enumerate(self.layers):
            keys, values = caches[number % len(caches)]
            h = F.rms_norm(x, (WIDTH,), layer.norms[0])
            q, k, v = F.linear(h, layer.qkv).view(-1, 3, HEADS, HEAD_DIM).unbind(1)
            keys[:, :, -1] = k
            values[:, :, -1] = v
            x = x + F.linear(attend(q.unsqueeze(2), keys, values).reshape(-1, WIDTH), layer.out)
            gate, up = F.linear(F.rms_norm(x, (WIDTH,), layer.norms[1]), layer.up).chunk(2, -1)
            x = x + F.linear(F.silu(gate) * up, layer.down)
        tokens.copy_(F.linear(F.rms_norm(x, (WIDTH,), self.norm), self.head).argmax(-1))


def attend(q, keys, values):
    return F.scaled_dot_product_attention(q, keys, values)


def attend_all(q, caches):
    for number in range(LAYERS):
        attend(q, *caches[number % len(caches)])


def cache_bytes(context):
    """Of a sequence, all layers."""
    return LAYERS * 2 * context * HEADS * HEAD_DIM * 2


def make_caches(batch, context):
    """Keys and values [B, heads, context, 128] of as many layers as fit."""
    torch.cuda.empty_cache()
    free, _ = torch.cuda.mem_get_info()
    count = min(LAYERS, int(MEMORY_SHARE * free) // (batch * cache_bytes(context) // LAYERS))
    shape = (batch, HEADS, context, HEAD_DIM)
    return [tuple(torch.randn(shape, device="cuda", dtype=torch.bfloat16) for _ in range(2)) for _ in range(count)]


def seconds(call):
    """Median time of a call that is played back as a CUDA graph."""
    side = torch.cuda.Stream()
    side.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(side):
        for _ in range(WARMUPS):
            call()
    torch.cuda.current_stream().wait_stream(side)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        call()
    graph.replay()
    times = []
    for _ in range(REPLAYS):
        begin, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        begin.record()
        graph.replay()
        end.record()
        end.synchronize()
        times.append(begin.elapsed_time(end) / 1e3)
    return sorted(times)[len(times) // 2]


def fastest_attention(batch, caches):
    """The name of the backend that is, and its time for all layers."""
    q = torch.randn(batch, HEADS, 1, HEAD_DIM, device="cuda", dtype=torch.bfloat16)
    found = {}
    for name, backend in BACKENDS.items():
        try:
            with sdpa_kernel(backend):
                found[name] = seconds(lambda: attend_all(q, caches))
        except RuntimeError as error:  # it does not do this shape
            torch.cuda.synchronize()
            print(f"softmax_peer: {name}: {str(error).splitlines()[0]}", file=sys.stderr)
    return min(found.items(), key=lambda item: item[1])


def measure(model, batch, context):
    caches = make_caches(batch, context)
    if not caches:
        return None
    backend, attention = fastest_attention(batch, caches)
    tokens = torch.zeros(batch, dtype=torch.long, device="cuda")
    with sdpa_kernel(BACKENDS[backend]):
        step = seconds(lambda: model.step(tokens, caches))
    return {"gpu": torch.cuda.get_device_name(), "torch": torch.__version__, "parameters": model.parameters(),
            "batch": batch, "context": context, "backend": backend, "step_us": step * 1e6,
            "attention_us": attention * 1e6, "cache_bytes": cache_bytes(context), "fits": len(caches) == LAYERS}


def numbers(text):
    return [int(word) for word in text.split(",")]


@torch.inference_mode()
def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--lengths", type=numbers, default=[1024 << power for power in range(8)])
    parser.add_argument("--batches", type=numbers, default=[1, 16])
    options = parser.parse_args()
    torch.manual_seed(0)
    model = Model()
    for batch in options.batches:
        for context in options.lengths:
            result = measure(model, batch, context)
            if result is not None:
                print(json.dumps(result), flush=True)


if __name__ == "__main__":
    main()
