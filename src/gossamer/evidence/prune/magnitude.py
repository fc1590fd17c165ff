"""Magnitude pruning keeps more of a language model than pruning at random does."""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from gossamer.core import Keep, select, sites, unstructured
from gossamer.evidence.language import Verdicts, trial
from gossamer.evidence.record import Evidence, Scale
from gossamer.observe import InMemory
from gossamer.prune import Magnitude, Result


@dataclass(frozen=True)
class AtRandom:
    """The baseline: the same number of weights of each matrix, drawn under a seed."""

    density: float
    seed: int

    def run(self, model: nn.Module, data: Tensor, device: Any = None) -> Result:
        """Prune in place."""
        generator = torch.Generator().manual_seed(self.seed)
        supports = {}
        for site in sites(model):
            score = torch.rand(site.shape, generator=generator).to(site.view().device)
            support = select(score, unstructured(), Keep.fraction(self.density))
            site.write(support.apply(site.view()))
            supports[site.name] = support
        return Result(model, supports, {}, InMemory(model))


def run(seed: int, device: str, scale: Scale = "quick", data: Path | None = None) -> Evidence:
    """Perplexity of SmolLM2 at 50 % and, at full scale, 80 % density."""
    started = time.perf_counter()
    language, verdicts = trial(seed, device, scale, data), Verdicts()
    dense = language.dense()
    for density in (0.5,) if scale == "quick" else (0.5, 0.8):
        kept = language.run(f"magnitude {density:.0%} kept", Magnitude(density=density))
        random = language.run(f"random {density:.0%} kept", AtRandom(density, seed))
        verdicts.at_most(f"perplexity at {density:.0%} kept against a half of random", kept,
                         0.5 * random)
        verdicts.at_least("pruned against dense", kept, dense)
    return Evidence(
        claim="Keeping the largest weights of each matrix costs less than half the perplexity "
              "of keeping as many at random.",
        figures=language.figures(), holds=verdicts.holds, because=verdicts.because,
        baseline="the same number of weights of every matrix at random",
        seconds=time.perf_counter() - started,
    )
