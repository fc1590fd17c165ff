"""Gradual pruning: masks that grow by a cubic schedule while a net trains.

Zhu, Gupta, "To prune, or not to prune: exploring the efficacy of pruning for model compression",
2017, arXiv 1710.01878.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch

from gossamer.core import ConfigError, Keep, Pattern, Site, Support, select
from gossamer.edit import Handle, Project, apply


@dataclass(frozen=True)
class Cubic:
    """Share of pruned weights by training step: ``s (1 - (1 - (t - t0) / (t1 - t0))^3)``.

    Args:
        final: s, the share from step ``end`` on.
        begin, end: t0 and t1; nothing is pruned before t0.
        every: steps between two changes of the masks.

    Raises:
        ConfigError: an end that is not after the beginning.

    >>> schedule = Cubic(0.8, 10, 30, 5)
    >>> [round(schedule.at(step), 3) for step in (0, 10, 20, 30, 99)]
    [0.0, 0.0, 0.7, 0.8, 0.8]
    >>> [step for step in range(99) if schedule.due(step)]
    [10, 15, 20, 25, 30]
    """

    final: float
    begin: int
    end: int
    every: int

    def __post_init__(self) -> None:
        if not 0 <= self.begin < self.end or self.every < 1:
            raise ConfigError(
                f"A schedule must begin before it ends and change every step or less often, not "
                f"begin at {self.begin}, end at {self.end} and change every {self.every} steps."
            )

    def at(self, step: int) -> float:
        """The share at a step."""
        done = min(max((step - self.begin) / (self.end - self.begin), 0.0), 1.0)
        return self.final * (1 - (1 - done) ** 3)

    def due(self, step: int) -> bool:
        """True at the steps where masks change, the last of which is the end."""
        inside = self.begin <= step < self.end and (step - self.begin) % self.every == 0
        return inside or step == self.end


def prune_to(found: Sequence[Site], share: float, pattern: Pattern) -> dict[str, Support]:
    """The largest ``1 - share`` of every site's weights (or blocks, by their sum of sizes)."""
    keep = Keep.fraction(1 - share)
    return {site.name: select(site.view().abs(), pattern, keep) for site in found}


def renew(
    model: torch.nn.Module, found: Sequence[Site], supports: dict[str, Support],
    optimizer: torch.optim.Optimizer, before: Handle | None,
) -> Handle:
    """Hold the sites to new supports from now on, in the place of the handle before."""
    if before is not None:
        before.bake()
    return apply(model, [Project(site, supports[site.name]) for site in found], optimizer)
