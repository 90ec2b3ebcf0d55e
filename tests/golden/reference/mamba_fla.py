"""Mamba in flash-linear-attention's format: other names and defaults for the same function."""

import numpy as np

from golden_file import Tensors
from reference import mamba
from reference.checkpoint import Checkpoint

SOURCE = ("fla.models", "MambaForCausalLM", "MambaConfig")
DEFAULTS = {
    "state_size": 16,
    "norm_eps": 1e-5,
    "expand": 2,
    "conv_kernel": 4,
    "use_bias": False,
    "use_conv_bias": True,
    "dt_rank": "auto",
    "tie_word_embeddings": False,
}
RULES = mamba.RULES


def translate(config: dict) -> dict:
    """The settings under transformers' names."""
    names = {"layer_norm_epsilon": config["norm_eps"], "time_step_rank": config["dt_rank"]}
    return {**config, **names}


def shapes(config: dict) -> dict[str, tuple[int, ...]]:
    """Names and shapes of the tensors."""
    return mamba.shapes(translate(config))


def logits(config: dict, tensors: Tensors, ids: list[int], rounding: bool = False) -> np.ndarray:
    """Logits [T, vocab]."""
    return mamba.logits(translate(config), tensors, ids, rounding)


CHECKPOINTS = (
    # A head of its own, by absence of the key.
    Checkpoint(
        "mamba_fla_fp32",
        601,
        "float32",
        {
            "vocab_size": 128,
            "hidden_size": 32,
            "num_hidden_layers": 2,
            "dt_rank": 8,
            "norm_eps": 1e-5,
        },
        {"norm_eps": 1e-2},
    ),
    Checkpoint(
        "mamba_fla_bias_bf16",
        602,
        "bfloat16",
        {
            "vocab_size": 128,
            "hidden_size": 64,
            "num_hidden_layers": 2,
            "state_size": 16,
            "dt_rank": 16,
            "use_bias": True,
            "use_conv_bias": False,
            "norm_eps": 1e-2,
            "tie_word_embeddings": True,
        },
        {"norm_eps": 1e-5},
    ),
)
