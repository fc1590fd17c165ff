"""STen's grouped N:M: N of every M inputs kept, and every choice of N places by equally many rows.

Ivanov, Dryden, Ben-Nun, Ashkboos, Hoefler, "STen: Productive and Efficient Sparsity in PyTorch",
2023, arXiv 2304.07613.
"""

from __future__ import annotations

from dataclasses import dataclass

from torch import nn

from gossamer.cards import Card, system
from gossamer.core import ConfigError, parse_pattern, validate
from gossamer.observe import Progress, Source, silent
from gossamer.prune.fields import Density, Match, PatternText, resolve
from gossamer.prune.parts.scores import magnitude
from gossamer.prune.parts.solver import one_shot
from gossamer.prune.result import Result
from gossamer.prune.run import Data, Device, Folder, Recipe, Where, per_site, run

CARD = Card(
    id="sten",
    family="prune",
    title="STen",
    year=2023,
    paper="Ivanov, Dryden, Ben-Nun, Ashkboos, Hoefler, 2023, arXiv 2304.07613",
    keeps="N of every M inputs of a row, each choice of N places taken by equally many rows",
    ours=(
        "MiniLM-L6 in layouts csr, nm and group_nm equals its masked dense form to 1.9e-5; of "
        "Gaussian weights 2:4:4 keeps 0.732 of the magnitude (N:M 0.746, best grouping 0.733), "
        "2:4:16 0.741",
        "one thread of an AMD EPYC with AVX2, busy, 3072x768, float32: with 512 inputs 2:4:16 is "
        "1.2 times as quick as the fastest of three dense products, 1:10:4 3.0 times; with 64 "
        "inputs 1.4 and 2.9 times; with one input 2:4:16 is no quicker (0.96)",
        "10 million weights are grouped in 3 CPU seconds (2:4), 7 (3:6)",
    ),
    differs=(
        "layouts, operators and sparsifiers are the library's own: layouts and kernels are "
        "registries (docs/guide/new-layout.md), a sparsifier is a score, a pattern and a budget",
        "a product without a kernel runs through the reference and is counted; nothing is "
        "converted to another layout behind the user's back",
        "no tracing of intermediate tensors: weights alone are held in layouts",
    ),
)


@system(CARD)
@dataclass(frozen=True)
class STen:
    """Keep the weights of greatest ``|W_ij|`` that a grouped N:M pattern allows; needs no data.

    >>> from torch import nn
    >>> result = STen(pattern="2:4:2").run(nn.Sequential(nn.Linear(8, 12)))
    >>> result.density
    0.5
    """

    density: Density = None
    pattern: PatternText = "2:4:4"
    match: Match = None

    def __post_init__(self) -> None:
        validate(self)
        resolve(self.density, self.pattern, "uniform")
        if parse_pattern(self.pattern).grouped is None:
            raise ConfigError(
                f"STen takes a grouped pattern N:M:G such as 2:4:8, not {self.pattern!r}; for the "
                "others there is the system magnitude."
            )

    def run(self, model: nn.Module | Source, data: Data = None, workdir: Folder = None,
            device: Device = None, progress: Progress = silent) -> Result:
        """Prune in place; ``data`` is not used."""
        pattern, density = resolve(self.density, self.pattern, "uniform")
        recipe = Recipe(pattern, density, "uniform", self.match, lambda site: (),
                        per_site(one_shot(magnitude)))
        return run(self, recipe, model, data, Where(workdir, device, progress))
