"""The configuration fields that pruning systems share, with their meaning and bounds."""

from __future__ import annotations

from typing import Annotated, Literal

import annotated_types as at

from gossamer.core.errors import ConfigError
from gossamer.core.pattern import Pattern, parse_pattern

Density = Annotated[
    float | None, at.Gt(0), at.Le(1),
    "share of the weights that is kept; None is 0.5, or what an N:M pattern says",
]
PatternText = Annotated[
    str, "rows, unstructured, columns128, 16x16 or N:M such as 2:4 (N of every M kept)"]
Allocation = Annotated[
    Literal["uniform", "erk", "global", "owl"], "how the budget is spread over the layers"]
Match = Annotated[str | None, "shell pattern that the names of pruned sites must match"]
Sequential = Annotated[
    bool, "collect statistics anew after each group of layers inside a block, at more cost"]


def resolve(density: float | None, pattern: str, allocation: str) -> tuple[Pattern, float]:
    """The pattern and density of a configuration; refuses combinations that contradict.

    >>> resolve(None, "2:4", "uniform")[1]
    0.5
    """
    parsed = parse_pattern(pattern)
    fixed = parsed.density
    if fixed is None:
        return parsed, 0.5 if density is None else density
    if density is not None and abs(density - fixed) > 1e-9:
        raise ConfigError(
            f"The pattern {pattern} keeps {fixed:g} of the weights, which contradicts density "
            f"{density:g}; leave the density out."
        )
    if allocation != "uniform":
        raise ConfigError(f"The pattern {pattern} fixes every layer's density; use allocation "
                          f"'uniform', not {allocation!r}.")
    return parsed, fixed
