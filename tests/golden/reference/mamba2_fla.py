"""Mamba-2 in flash-linear-attention's format: other names and defaults, and settings of its own.

flash-linear-attention 0.6.0 without mamba_ssm deals groups out to heads in turn at prefill and in
runs at decode, so no checkpoint here has more than one group.
"""

import numpy as np

from golden_file import Tensors
from reference import mamba2
from reference.checkpoint import Checkpoint

SOURCE = ("fla.models", "Mamba2ForCausalLM", "Mamba2Config")
INFINITY = float("inf")
DEFAULTS = {
    "head_dim": 64,
    "state_size": 128,
    "norm_eps": 1e-5,
    "expand": 2,
    "conv_kernel": 4,
    "n_groups": 1,
    "use_bias": False,
    "use_conv_bias": True,
    "D_has_hdim": False,
    "dt_limit": [0.0, INFINITY],
    "rmsnorm": True,
    "norm_before_gate": False,
    "tie_word_embeddings": False,
}
RULES = mamba2.RULES


def translate(config: dict) -> dict:
    """The settings under transformers' names."""
    return {
        **config,
        "num_heads": int(config["expand"] * config["hidden_size"] / config["head_dim"]),
        "layer_norm_epsilon": config["norm_eps"],
        "time_step_limit": config["dt_limit"],
    }


def shapes(config: dict) -> dict[str, tuple[int, ...]]:
    """Names and shapes of the tensors."""
    return mamba2.shapes(translate(config))


def logits(config: dict, tensors: Tensors, ids: list[int], rounding: bool = False) -> np.ndarray:
    """Logits [T, vocab]."""
    return mamba2.logits(translate(config), tensors, ids, rounding)


CHECKPOINTS = (
    Checkpoint(
        "mamba2_fla_fp32",
        801,
        "float32",
        {
            "vocab_size": 128,
            "hidden_size": 32,
            "num_hidden_layers": 2,
            "head_dim": 16,
            "state_size": 16,
            "norm_eps": 1e-5,
            "dt_limit": [0.0, INFINITY],
        },
        {"norm_eps": 1e-2},
    ),
    # A skip for every channel, and the norm before the gate.
    Checkpoint(
        "mamba2_fla_channels_bf16",
        802,
        "bfloat16",
        {
            "vocab_size": 128,
            "hidden_size": 64,
            "num_hidden_layers": 2,
            "head_dim": 32,
            "state_size": 32,
            "D_has_hdim": True,
            "norm_before_gate": True,
            "norm_eps": 1e-2,
            "tie_word_embeddings": True,
        },
        {"norm_eps": 1e-5, "norm_before_gate": False},
    ),
    # No norm beside the gate, all biases, time steps held between limits.
    Checkpoint(
        "mamba2_fla_unnormed_fp16",
        803,
        "float16",
        {
            "vocab_size": 160,
            "hidden_size": 48,
            "num_hidden_layers": 2,
            "head_dim": 16,
            "state_size": 16,
            "rmsnorm": False,
            "use_bias": True,
            "norm_eps": 1e-5,
            "dt_limit": [0.05, 0.3],
        },
        {"dt_limit": [0.0, INFINITY]},
    ),
)
