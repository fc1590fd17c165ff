"""Magnitude pruning: keep the largest ``|W_ij|`` of a matrix; the baseline of every other system.

Han, Pool, Tran, Dally, "Learning both Weights and Connections", NeurIPS 2015, arXiv 1506.02626.
"""

from __future__ import annotations

from dataclasses import dataclass

from torch import nn

from gossamer.cards import Card, system
from gossamer.core import validate
from gossamer.observe import Progress, Source, silent
from gossamer.prune.fields import Allocation, Density, Match, PatternText, resolve
from gossamer.prune.parts.scores import magnitude
from gossamer.prune.parts.solver import one_shot
from gossamer.prune.result import Result
from gossamer.prune.run import Data, Device, Folder, Recipe, Where, per_site, run

CARD = Card(
    id="magnitude",
    family="prune",
    title="Magnitude pruning",
    year=2015,
    paper="Han, Pool, Tran, Dally, NeurIPS 2015, arXiv 1506.02626",
    keeps="the weights of greatest absolute value in each matrix",
    ours=("perplexity 476.5 at 50 % "
          "(SmolLM2-135M, WikiText-2, dense 24.9, median of three seeds)",),
    differs=("one shot, without the retraining of the paper",),
)


@system(CARD)
@dataclass(frozen=True)
class Magnitude:
    """Keep the weights of greatest ``|W_ij|``; needs no data.

    >>> from torch import nn
    >>> result = Magnitude(density=0.25).run(nn.Sequential(nn.Linear(8, 8)))
    >>> result.density
    0.25
    """

    density: Density = None
    pattern: PatternText = "unstructured"
    allocation: Allocation = "uniform"
    match: Match = None

    def __post_init__(self) -> None:
        validate(self)
        resolve(self.density, self.pattern, self.allocation)

    def run(self, model: nn.Module | Source, data: Data = None, workdir: Folder = None,
            device: Device = None, progress: Progress = silent) -> Result:
        """Prune in place; ``data`` is used by the allocations global and owl alone."""
        pattern, density = resolve(self.density, self.pattern, self.allocation)
        recipe = Recipe(pattern, density, self.allocation, self.match, lambda site: (),
                        per_site(one_shot(magnitude)))
        return run(self, recipe, model, data, Where(workdir, device, progress))
