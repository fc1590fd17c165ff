"""DSnoT: swap kept and dropped weights until a row's expected output error vanishes.

Zhang, Zhao, Lin, Sun, Yao, Han, Tanner, Liu, Ji, "Dynamic Sparse No Training: Training-Free
Fine-tuning for Sparse LLMs", ICLR 2024, arXiv 2310.08915.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Annotated, Literal

import annotated_types as at
from torch import Tensor, nn

from gossamer.cards import Card, system
from gossamer.core import select, validate
from gossamer.core.errors import ConfigError
from gossamer.observe import Progress, Source, Stats, Visit, silent
from gossamer.prune.fields import (
    Allocation,
    Density,
    Match,
    PatternText,
    Sequential,
    resolve,
)
from gossamer.prune.parts.dsnot import SwapSettings, swap
from gossamer.prune.parts.hessian import factorise
from gossamer.prune.parts.mlp import mlp_sites
from gossamer.prune.parts.scores import activation_scaled, finite, magnitude, obs_saliency
from gossamer.prune.parts.solver import Budget, Solved
from gossamer.prune.parts.sparsegpt import workspace
from gossamer.prune.result import Result
from gossamer.prune.run import Data, Device, Folder, Recipe, Where, run, stats_of

CARD = Card(
    id="dsnot",
    family="prune",
    title="DSnoT",
    year=2024,
    paper="Zhang, Zhao, Lin, Sun, Yao, Han, Tanner, Liu, Ji, ICLR 2024, arXiv 2310.08915",
    keeps="dense values on a mask whose swaps bring each row's expected output error to zero",
    ours=("perplexity 45.0 at 50 %, 91.3 at 60 % "
          "(SmolLM2-135M, WikiText-2, dense 24.9, median of three seeds)",),
    differs=(
        "the paper's rule against a change of the error's sign is on (the released script has it "
        "off; on inputs of 256 to 1024 features that made the output error worse)",
        "a row stops once its next swap no longer helps; the released code swaps anyway",
        "the threshold 0.1 is in units of 2048 tokens whatever the calibration length",
    ),
    needs=("input_sum", "input_sq"),
)


@system(CARD)
@dataclass(frozen=True)
class DSnoT:
    """Refine a one-shot mask by training-free prune-and-grow; no weight value changes.

    >>> DSnoT(start="wanda", modules="all").cycles
    50
    """

    density: Density = None
    pattern: PatternText = "rows"
    allocation: Allocation = "uniform"
    match: Match = None
    start: Annotated[Literal["wanda", "magnitude", "sparsegpt"],
                     "score of the first mask (sparsegpt: its saliency, without the update)"
                     ] = "wanda"
    modules: Annotated[Literal["attn", "all"],
                       "refine all sites but the feed-forward ones, as released, or all"] = "attn"
    cycles: Annotated[int, at.Ge(0), "most swaps a row"] = 50
    threshold: Annotated[float, at.Ge(0), "expected error at which a row stops"] = 0.1
    same_sign: Annotated[bool, "refuse the swap that turns the error's sign"] = True
    sequential: Sequential = False

    def __post_init__(self) -> None:
        validate(self)
        pattern, _ = resolve(self.density, self.pattern, self.allocation)
        if not (pattern.is_nm or str(pattern) == "rows"):
            raise ConfigError(
                f"DSnoT swaps inside rows or N:M groups; pattern {self.pattern!r} is neither.")

    def run(self, model: nn.Module | Source, data: Data, workdir: Folder = None,
            device: Device = None, progress: Progress = silent) -> Result:
        """Prune in place, block by block, with calibration tokens ``[sequences, length]``."""
        pattern, density = resolve(self.density, self.pattern, self.allocation)
        needs = CARD.needs + (("input_gram",) if self.start == "sparsegpt" else ())
        recipe = Recipe(pattern, density, self.allocation, self.match, lambda site: needs,
                        self._block, self.sequential, workspace)
        return run(self, recipe, model, data, Where(workdir, device, progress))

    def _block(self, visit: Visit, budgets: dict[str, Budget]) -> Iterator[tuple[str, Solved]]:
        skipped = set()
        if self.modules == "attn":
            skipped = {site.name for group in mlp_sites(visit.sites) for site in group}
        for site in visit.sites:
            weight, stats = finite(site.view(), site.name), stats_of(visit, site)
            budget = budgets[site.name]
            score = self._score(site.name, weight, stats)
            support = select(score, budget.pattern, budget.keep)
            if site.name not in skipped:
                worth = score if budget.pattern.is_nm else activation_scaled(weight, stats)
                support = swap(
                    weight, stats.mean.to(weight.device), stats.variance.to(weight.device), worth,
                    support, SwapSettings(self.cycles, self.threshold, self.same_sign))
            yield site.name, Solved(support.apply(weight), support)

    def _score(self, name: str, weight: Tensor, stats: Stats) -> Tensor:
        if self.start == "magnitude":
            return magnitude(weight)
        if self.start == "wanda":
            return activation_scaled(weight, stats)
        factor = stats.once("inverse_factor", lambda: factorise(stats["input_gram"], 0.01, name))
        return obs_saliency(weight, factor.upper)
