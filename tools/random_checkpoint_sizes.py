"""The sizes of write_random_checkpoint.py: config.json of published models, by family and size.

They follow the published models of a size where there is one (of fla-hub, state-spaces, RWKV,
Mistral and NX-AI); elsewhere the trunk is GLA's of that size, or, for xlstm, half as wide as the
7B. The size "demo" is about that of models/demo, 12 to 14 million weights.
"""

_DEMO = {"vocab_size": 4096, "tie_word_embeddings": True}
_FLA = {
    "demo": {"hidden_size": 384, "num_hidden_layers": 6, **_DEMO},
    "340M": {"hidden_size": 1024, "num_hidden_layers": 24, "vocab_size": 32000},
    "1.3B": {"hidden_size": 2048, "num_hidden_layers": 24, "vocab_size": 32000},
    "2.7B": {"hidden_size": 2560, "num_hidden_layers": 32, "vocab_size": 32000},
}


def _fla(model_type, *, heads=None, **keys):
    """GLA's trunks with a family's own keys; `heads` gives the heads of each size."""
    sizes = {}
    for size, trunk in _FLA.items():
        sizes[size] = {"model_type": model_type, **trunk, **keys}
        if heads:
            sizes[size]["num_heads"] = heads[size]
    return sizes


def _mamba(width, layers):
    return {"model_type": "mamba", "hidden_size": width, "num_hidden_layers": layers,
            "state_size": 16, "conv_kernel": 4, "expand": 2, "time_step_rank": width // 16,
            "layer_norm_epsilon": 1e-5, "use_bias": False, "use_conv_bias": True,
            "vocab_size": 50280, "tie_word_embeddings": True}


def _mamba2(width, layers):
    return {"model_type": "mamba2", "hidden_size": width, "num_hidden_layers": layers,
            "num_heads": width // 32, "head_dim": 64, "n_groups": 1, "state_size": 128,
            "conv_kernel": 4, "expand": 2, "layer_norm_epsilon": 1e-5, "use_bias": False,
            "use_conv_bias": True, "vocab_size": 50288, "tie_word_embeddings": True}


def _rwkv6(width, layers, intermediate):
    return {"model_type": "rwkv6", "hidden_size": width, "num_hidden_layers": layers,
            "num_heads": width // 64, "expand_k": 1.0, "expand_v": 1.0,
            "intermediate_size": intermediate, "vocab_size": 65536}


def _xlstm(width, blocks, heads):
    return {"model_type": "xlstm", "hidden_size": width, "embedding_dim": width,
            "num_hidden_layers": blocks, "num_blocks": blocks, "num_heads": heads,
            "vocab_size": 50304, "weight_mode": "single"}


SIZES = {
    "gla": _fla("gla", heads={"demo": 3, "340M": 4, "1.3B": 4, "2.7B": 5}),
    "retnet": _fla("retnet", heads={"demo": 3, "340M": 4, "1.3B": 8, "2.7B": 10}),
    "gated_retnet": _fla("gated_retnet", heads={"demo": 3, "340M": 4, "1.3B": 8, "2.7B": 10}),
    "hgrn2": _fla("hgrn2", expand_ratio=128),
    "linear_attn": _fla("linear_attn", heads={"demo": 3, "340M": 4, "1.3B": 8, "2.7B": 10}),
    "gated_rfa": _fla("gated_rfa", heads={"demo": 6, "340M": 8, "1.3B": 16, "2.7B": 20}),
    "decaying_fast_weights": _fla("decaying_fast_weights",
                                  heads={"demo": 6, "340M": 8, "1.3B": 16, "2.7B": 20}),
    "mamba": {"demo": {**_mamba(384, 12), **_DEMO}, "340M": _mamba(1024, 48),
              "1.3B": _mamba(2048, 48), "2.7B": _mamba(2560, 64)},
    "mamba2": {"demo": {**_mamba2(384, 12), **_DEMO}, "340M": _mamba2(1024, 48),
               "1.3B": _mamba2(2048, 48), "2.7B": _mamba2(2560, 64),
               "7B": {**_mamba2(4096, 64), "n_groups": 8, "vocab_size": 32768,
                      "tie_word_embeddings": False}},
    "rwkv6": {"demo": {**_rwkv6(384, 6, 1344), **_DEMO}, "1.3B": _rwkv6(2048, 24, 7168),
              "2.7B": _rwkv6(2560, 32, 8960), "7B": _rwkv6(4096, 32, 14336)},
    "xlstm": {"demo": {**_xlstm(384, 6, 3), "vocab_size": 4096}, "1.3B": _xlstm(2048, 24, 4),
              "7B": _xlstm(4096, 32, 8)},
}
