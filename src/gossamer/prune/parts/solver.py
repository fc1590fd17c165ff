"""What a pruner does to one site, and how the error of that is stated."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from gossamer.core.keep import Keep
from gossamer.core.pattern import Pattern
from gossamer.core.select import select
from gossamer.core.support import Support
from gossamer.observe.stats import Stats


@dataclass(frozen=True)
class Budget:
    """What one site must keep: the pattern and the share inside each of its pools."""

    pattern: Pattern
    keep: Keep


@dataclass(frozen=True)
class Solved:
    """The new weight ``[out, in]`` (float32, exact zeros) and its support."""

    weight: Tensor
    support: Support


Solver = Callable[[str, Tensor, Stats, Budget], Solved]
"""(site name, weight [out, in] float32, statistics of its input, budget) -> Solved"""


def one_shot(score: Callable[[Tensor, Stats], Tensor]) -> Solver:
    """Keep the best scores and leave the kept weights as they are."""

    def solve(name: str, weight: Tensor, stats: Stats, budget: Budget) -> Solved:
        support = select(score(weight, stats), budget.pattern, budget.keep)
        return Solved(support.apply(weight), support)

    return solve


def relative_error(before: Tensor, after: Tensor, stats: Stats) -> float | None:
    """``||(W' - W) X||^2 / ||W X||^2`` over the calibration inputs.

    Exact where the Gram matrix was collected; with only squared sums the inputs are taken as
    uncorrelated; None where nothing was collected.
    """
    change = after - before
    if "input_gram" in stats.needs:
        gram = stats["input_gram"]
        top, bottom = ((change @ gram) * change).sum(), ((before @ gram) * before).sum()
    elif "input_sq" in stats.needs:
        power = stats["input_sq"].to(before.dtype).to(before.device)
        top, bottom = (change.square() * power).sum(), (before.square() * power).sum()
    else:
        return None
    return float(top / bottom.clamp_min(torch.finfo(torch.float32).tiny))
