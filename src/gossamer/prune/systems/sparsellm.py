"""SparseLLM: prune a feed-forward part as a whole, through auxiliary activations.

Bai, Li, Ling, Kim, Zhao, "SparseLLM: Towards Global Pruning for Pre-trained Language Models",
NeurIPS 2024, arXiv 2402.17946.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Annotated

import annotated_types as at
from torch import Tensor, nn

from gossamer.cards import Card, system
from gossamer.core import Site, validate
from gossamer.core.errors import UnsupportedError
from gossamer.observe import Progress, Source, Visit, silent
from gossamer.prune.fields import Allocation, Density, PatternText, resolve
from gossamer.prune.parts.hessian import Factor, factorise
from gossamer.prune.parts.mlp import Mlp, bias_of, find_mlp, linear, mlp_sites
from gossamer.prune.parts.scores import finite
from gossamer.prune.parts.solver import Budget, Solved
from gossamer.prune.parts.sparsegpt import ObsSettings, solve, sparsegpt_layer, workspace
from gossamer.prune.parts.sparsellm import Penalties, Problem, alternate
from gossamer.prune.result import Result
from gossamer.prune.run import Data, Device, Folder, Recipe, Where, run, stats_of

CARD = Card(
    id="sparsellm",
    family="prune",
    title="SparseLLM",
    year=2024,
    paper="Bai, Li, Ling, Kim, Zhao, NeurIPS 2024, arXiv 2402.17946",
    keeps="weights of the feed-forward part chosen and refitted together; attention by SparseGPT",
    ours=("perplexity 104.0 at 70 %, SparseGPT 103.5 "
          "(SmolLM2-135M, WikiText-2, dense 24.9, median of three seeds)",),
    differs=(
        "the epoch of least calibration error is kept for every block (epoch 0 is SparseGPT), "
        "in place of a hand-picked list of blocks",
        "float32 and ridge regression in place of half-precision pseudo-inverses",
        "inputs of the feed-forward part are those of the block before its attention is pruned, "
        "as in the released code",
    ),
    needs=("input_gram", "input"),
)


@system(CARD)
@dataclass(frozen=True)
class SparseLLM:
    """Alternating closed-form updates of weights, activations and pre-activations.

    >>> SparseLLM(density=0.3).epochs
    4
    """

    density: Density = None
    pattern: PatternText = "columns128"
    allocation: Allocation = "uniform"
    epochs: Annotated[int, at.Ge(1), at.Le(100), "alternations; 1 is SparseGPT alone"] = 4
    alpha: Annotated[float | None, at.Gt(0), "weight of the pre-activation terms; None is 5 for "
                     "gated and 0.1 for plain feed-forward parts"] = None
    beta: Annotated[float | None, at.Gt(0), "weight of the output term; None likewise"] = None
    gamma: Annotated[float | None, at.Gt(0), "weight of the activation term; None likewise"] = None
    damp: Annotated[float, at.Gt(0), at.Le(1), "share of the mean diagonal added to H"] = 0.01
    block: Annotated[int, at.Ge(1), at.Le(1024), "columns solved together"] = 128

    def __post_init__(self) -> None:
        validate(self)
        resolve(self.density, self.pattern, self.allocation)

    def run(self, model: nn.Module | Source, data: Data, workdir: Folder = None,
            device: Device = None, progress: Progress = silent) -> Result:
        """Prune in place, block by block, with calibration tokens ``[sequences, length]``.

        The feed-forward inputs of one block are held in memory: ``tokens * (2 d + 3 f)`` floats.
        """
        pattern, density = resolve(self.density, self.pattern, self.allocation)
        recipe = Recipe(pattern, density, self.allocation, None, _needs, self._block,
                        workspace=workspace)
        return run(self, recipe, model, data, Where(workdir, device, progress))

    @property
    def settings(self) -> ObsSettings:
        """How the inner SparseGPT runs."""
        return ObsSettings(self.damp, self.block)

    def _block(self, visit: Visit, budgets: dict[str, Budget]) -> Iterator[tuple[str, Solved]]:
        groups = mlp_sites(visit.sites)
        if len(groups) != 1 or groups[0][0].kind == "expert":
            raise UnsupportedError(
                f"{visit.name}: SparseLLM needs blocks with one feed-forward part of two or three "
                f"linear layers; this one has {len(groups)}."
            )
        first, last = groups[0][0], groups[0][-1]
        x = stats_of(visit, first)["input"].float()
        mlp = find_mlp(visit.sites, x, stats_of(visit, last)["input"].float())
        solved = self._feed_forward(visit, mlp, x, budgets)
        yield from solved.items()
        for site in visit.sites:
            if site.name not in solved:
                weight = finite(site.view(), site.name)
                yield site.name, solve(self.settings, site.name, weight, stats_of(visit, site),
                                       budgets[site.name])

    def _feed_forward(self, visit: Visit, mlp: Mlp, x: Tensor,
                      budgets: dict[str, Budget]) -> dict[str, Solved]:
        named = {"up": mlp.up, "down": mlp.down} | ({"gate": mlp.gate} if mlp.gate else {})
        inner = stats_of(visit, mlp.down)["input"].float()
        problem = Problem(
            x=x, y=linear(inner, mlp.down),
            up=finite(mlp.up.view(), mlp.up.name), down=finite(mlp.down.view(), mlp.down.name),
            gate=finite(mlp.gate.view(), mlp.gate.name) if mlp.gate else None,
            biases=_biases(named), activation=mlp.activation)
        shared: list[tuple[Tensor, Factor]] = []

        def prune(which: str, weight: Tensor, gram: Tensor) -> Solved:
            site = named[which]
            known = next((f for g, f in shared if g is gram), None)
            factor = known or factorise(gram, self.damp, site.name)
            if known is None and which != "down":
                shared.append((gram, factor))
            updated, support, _ = sparsegpt_layer(weight, factor, budgets[site.name],
                                                  self.settings, site.name)
            return Solved(updated, support)

        outcome = alternate(problem, self._penalties(mlp), prune)
        return {named[which].name: part for which, part in outcome.solved.items()}

    def _penalties(self, mlp: Mlp) -> Penalties:
        usual = 5.0 if mlp.kind == "gated" else 0.1
        alpha, beta, gamma = (
            usual if value is None else value for value in (self.alpha, self.beta, self.gamma))
        return Penalties(alpha, beta, gamma, self.epochs)


def _needs(site: Site) -> tuple[str, ...]:
    """Feed-forward parts have one side wider than the other; their inputs are stored."""
    rows, cols = site.shape
    return CARD.needs if site.kind != "expert" and rows != cols else ("input_gram",)


def _biases(named: dict[str, Site]) -> dict[str, Tensor]:
    found = {which: bias_of(site) for which, site in named.items()}
    return {which: bias for which, bias in found.items() if bias is not None}
