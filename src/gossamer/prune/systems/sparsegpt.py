"""SparseGPT: prune columns left to right, each error made good by the columns after it.

Frantar, Alistarh, "SparseGPT: Massive Language Models Can Be Accurately Pruned in One-Shot",
ICML 2023, arXiv 2301.00774.
"""

from __future__ import annotations

import functools
from dataclasses import dataclass
from typing import Annotated, Literal

import annotated_types as at
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
from gossamer.prune.parts.sparsegpt import ObsSettings, solve, workspace
from gossamer.prune.result import Result
from gossamer.prune.run import Data, Device, Folder, Recipe, Where, per_site, run

CARD = Card(
    id="sparsegpt",
    family="prune",
    title="SparseGPT",
    year=2023,
    paper="Frantar, Alistarh, ICML 2023, arXiv 2301.00774",
    keeps="the weights of greatest saliency w^2 / [H^-1]_jj, and updates the others to make good",
    ours=("perplexity 36.3 at 50 %, 52.6 at 2:4 "
          "(SmolLM2-135M, WikiText-2, dense 24.9, median of three seeds)",),
    differs=(
        "the inverse factor comes from one Cholesky of the reversed Hessian, not from two",
        "exact counts in every block of columns (the released code prunes too many on ties)",
        "layers that share an input share the factorisation",
    ),
    needs=("input_gram",),
)


@system(CARD)
@dataclass(frozen=True)
class SparseGPT:
    """Optimal brain surgeon with one column order for all rows; any N:M, optional joint grid.

    >>> SparseGPT(pattern="2:4", bits=4).bits
    4
    """

    density: Density = None
    pattern: PatternText = "columns128"
    allocation: Allocation = "uniform"
    match: Match = None
    damp: Annotated[float, at.Gt(0), at.Le(1), "share of the mean diagonal added to H"] = 0.01
    block: Annotated[int, at.Ge(1), at.Le(1024), "columns solved together"] = 128
    bits: Annotated[
        Literal[2, 3, 4, 8] | None,
        "round the kept weights to 2^bits values a row as well; stored at full width for now",
    ] = None
    sequential: Sequential = False

    def __post_init__(self) -> None:
        validate(self)
        resolve(self.density, self.pattern, self.allocation)

    def run(self, model: nn.Module | Source, data: Data, workdir: Folder = None,
            device: Device = None, progress: Progress = silent) -> Result:
        """Prune in place, block by block, with calibration tokens ``[sequences, length]``."""
        pattern, density = resolve(self.density, self.pattern, self.allocation)
        settings = ObsSettings(self.damp, self.block, self.bits)
        recipe = Recipe(pattern, density, self.allocation, self.match, lambda site: CARD.needs,
                        per_site(functools.partial(solve, settings)), self.sequential, workspace)
        return run(self, recipe, model, data, Where(workdir, device, progress))
