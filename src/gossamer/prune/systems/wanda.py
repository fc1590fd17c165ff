"""Wanda: keep the largest ``|W_ij| * ||X_j||`` of every output row.

Sun, Liu, Bair, Kolter, "A Simple and Effective Pruning Approach for Large Language Models",
ICLR 2024, arXiv 2306.11695.
"""

from __future__ import annotations

from dataclasses import dataclass

from torch import nn

from gossamer.cards import Card, system
from gossamer.core import validate
from gossamer.observe import Progress, Source, silent
from gossamer.prune.fields import (
    Allocation,
    Density,
    Match,
    PatternText,
    Sequential,
    resolve,
)
from gossamer.prune.parts.scores import activation_scaled
from gossamer.prune.parts.solver import one_shot
from gossamer.prune.result import Result
from gossamer.prune.run import Data, Device, Folder, Recipe, Where, per_site, run

CARD = Card(
    id="wanda",
    family="prune",
    title="Wanda",
    year=2024,
    paper="Sun, Liu, Bair, Kolter, ICLR 2024, arXiv 2306.11695",
    keeps="in every output row, the weights of greatest |W_ij| times input norm",
    ours=("perplexity 46.0 at 50 %, 120 at 2:4 "
          "(SmolLM2-135M, WikiText-2, dense 24.9, median of three seeds)",),
    differs=(
        "exact counts in every row (the released code keeps too few where scores tie)",
        "N of N:M counts kept weights; the released code counts pruned ones",
    ),
    needs=("input_sq",),
)


@system(CARD)
@dataclass(frozen=True)
class Wanda:
    """Keep the weights of greatest ``|W_ij| * ||X_j||_2`` in every output row; no weight changes.

    >>> Wanda(pattern="2:4").card.title
    'Wanda'
    """

    density: Density = None
    pattern: PatternText = "rows"
    allocation: Allocation = "uniform"
    match: Match = None
    sequential: Sequential = False

    def __post_init__(self) -> None:
        validate(self)
        resolve(self.density, self.pattern, self.allocation)

    def run(self, model: nn.Module | Source, data: Data, workdir: Folder = None,
            device: Device = None, progress: Progress = silent) -> Result:
        """Prune in place, block by block, with calibration tokens ``[sequences, length]``."""
        pattern, density = resolve(self.density, self.pattern, self.allocation)
        recipe = Recipe(pattern, density, self.allocation, self.match, lambda site: CARD.needs,
                        per_site(one_shot(activation_scaled)), self.sequential)
        return run(self, recipe, model, data, Where(workdir, device, progress))
