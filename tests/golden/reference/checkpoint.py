"""A tiny checkpoint: its settings and how its random weights are drawn."""

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from types import ModuleType

import numpy as np

from golden_file import Tensors, round_to

LOGIT_SIZE = 0.2
"""Logits are kept small so that rounding to bfloat16 moves log-probabilities little."""

Rule = Callable[[np.random.Generator, tuple[int, ...]], np.ndarray]


@dataclass(frozen=True)
class Checkpoint:
    """One checkpoint of a model.

    config holds the keys that config.json gives; the model's DEFAULTS hold the others. mistakes are
    settings that would be wrong, each of which must change the log-probabilities. rules override
    the model's RULES.
    """

    name: str
    seed: int
    dtype: str
    config: dict
    mistakes: dict = field(default_factory=dict)
    rules: dict[str, Rule] = field(default_factory=dict)


def gaussian(gain: float) -> Rule:
    """Outputs about gain wide for inputs about one wide."""
    return lambda rng, shape: gain * rng.standard_normal(shape) / math.sqrt(shape[-1])


def normal(mean: float, deviation: float) -> Rule:
    """Each value normal."""
    return lambda rng, shape: mean + deviation * rng.standard_normal(shape)


def uniform(low: float, high: float) -> Rule:
    """Each value uniform."""
    return lambda rng, shape: rng.uniform(low, high, shape)


def log_uniform(low: float, high: float) -> Rule:
    """The logarithm of values uniform between low and high."""
    return lambda rng, shape: np.log(rng.uniform(low, high, shape))


def inverse_softplus(low: float, high: float) -> Rule:
    """x where softplus(x) is spread evenly, in its logarithm, between low and high."""

    def draw(rng: np.random.Generator, shape: tuple[int, ...]) -> np.ndarray:
        value = np.exp(rng.uniform(math.log(low), math.log(high), shape))
        return value + np.log(-np.expm1(-value))

    return draw


COMMON_RULES: dict[str, Rule] = {
    "norm.weight": normal(1, 0.3),
    "swish_gate.weight": normal(1, 0.3),
    "norm_f.weight": normal(1, 0.3),
    "norm_mlstm.weight": normal(1, 0.3),
    "norm_ffn.weight": normal(1, 0.3),
    "lm_head.weight": gaussian(LOGIT_SIZE),
    "o_proj.weight": gaussian(0.7),
    "out_proj.weight": gaussian(0.7),
    "down_proj.weight": gaussian(0.7),
    "proj_down.weight": gaussian(0.7),
    "conv1d.weight": gaussian(1.0),
    ".bias": normal(0, 0.3),
}
"""By the end of the tensor's name; the longest that fits counts."""


def rule_for(name: str, rules: dict[str, Rule]) -> Rule:
    """The rule of a tensor, or a gaussian matrix."""
    fits = [end for end in rules if name.endswith(end)]
    return rules[max(fits, key=len)] if fits else gaussian(1.0)


def make_tensors(model: ModuleType, checkpoint: Checkpoint) -> Tensors:
    """The weights, as values that the checkpoint's type can hold."""
    rng = np.random.default_rng(checkpoint.seed)
    config = {**model.DEFAULTS, **checkpoint.config}
    shapes = model.shapes(config)
    rules = {**COMMON_RULES, **model.RULES, **checkpoint.rules}
    tied = "lm_head.weight" not in shapes
    out = {}
    for name, shape in shapes.items():
        rule = rule_for(name, rules)
        if name.endswith("embeddings.weight"):
            rule = gaussian(LOGIT_SIZE) if tied else normal(0, 0.5)
        out[name] = round_to(rule(rng, shape), checkpoint.dtype)
    return out
