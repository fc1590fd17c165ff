"""check_part: a score or a solver reads what it declares, repeats itself, and meets its budget."""

from __future__ import annotations

from collections.abc import Callable, Collection
from typing import Literal

import torch
from torch import Tensor

from gossamer.core import Keep, columns, nm, rows, unstructured
from gossamer.observe import Stats
from gossamer.planted import Layer, correlated_layer
from gossamer.prune.parts.solver import Budget, Solved
from gossamer.testing.claims import claim, exact_budget, refuses, same_bits

_BUDGETS = (
    Budget(unstructured(), Keep.fraction(0.5)), Budget(rows(), Keep.fraction(0.3)),
    Budget(columns(16), Keep.fraction(0.7)), Budget(nm(2, 4), Keep.fraction(0.5)),
    Budget(nm(1, 4), Keep.fraction(0.25)),
)


def check_part(
    part: Callable[..., Tensor | Solved], needs: Collection[str],
    kind: Literal["score", "solver"] = "score",
) -> None:
    """Raise AssertionError where a part is not what a system may be composed of.

    It must work from exactly the statistics it declares (and fail without any one of them),
    leave its arguments alone, and return the same bits whatever torch's global seed is. A score
    is finite and shaped as the weight. A solver returns finite float32 weights that are exactly
    zero outside its support, with the exact count in every pool of the budget.

    Args:
        part: a score ``(weight, stats) -> Tensor`` or a solver
            ``(name, weight, stats, budget) -> Solved``.
        needs: the statistics it declares, see `observe.NEEDS`.
        kind: which of the two it is.

    >>> check_part(lambda weight, stats: weight.abs() * stats.norm, ["input_sq"])
    """
    layer = correlated_layer(features=48, outputs=24, tokens=400, condition=10.0)
    budgets = _BUDGETS if kind == "solver" else _BUDGETS[:1]
    for budget in budgets:
        def run(stats: Stats, budget: Budget = budget) -> Tensor | Solved:
            weight = layer.weight.clone()
            said = part(weight, stats) if kind == "score" else part("w", weight, stats, budget)
            claim(same_bits(weight, layer.weight), "The weight it was given was changed.")
            return said

        torch.manual_seed(1)
        first = run(_stats(layer, needs))
        torch.manual_seed(2)
        again = run(_stats(layer, needs))
        if isinstance(first, Solved) and isinstance(again, Solved):
            _solved(layer, first, budget)
            same = first.support == again.support and same_bits(first.weight, again.weight)
        else:
            same = same_bits(_scored(layer, first), _scored(layer, again))
        claim(same, "The global seed changes the result; take a Generator or a seed as argument.")
        for need in needs:
            rest = set(needs) - {need}
            refuses(lambda r=rest, f=run: f(_stats(layer, r)),  # type: ignore[misc]
                    f"a part that declares {need!r} and does not get it")


def _stats(layer: Layer, needs: Collection[str]) -> Stats:
    stats = Stats("w", frozenset(needs))
    for batch in torch.split(layer.input, 100):
        stats.add(batch)
    return stats


def _scored(layer: Layer, score: Tensor | Solved) -> Tensor:
    if not isinstance(score, Tensor):
        raise AssertionError(f"A score is a tensor, not {type(score).__name__}.")
    claim(score.shape == layer.weight.shape,
          f"A score of shape {tuple(score.shape)} does not fit the weight.")
    claim(score.is_floating_point() and bool(torch.isfinite(score).all()),
          "A score must be a finite float.")
    return score


def _solved(layer: Layer, solved: Solved, budget: Budget) -> None:
    what = f"The support for {budget.pattern}"
    weight = solved.weight
    claim(weight.dtype == torch.float32 and weight.shape == layer.weight.shape,
          f"A solved weight of {weight.dtype} {tuple(weight.shape)} is not float32 of the shape.")
    claim(bool(torch.isfinite(weight).all()), "A solved weight is not finite.")
    claim(not bool(weight[~solved.support.mask()].any()),
          f"{what}: the weight is not zero outside.")
    exact_budget(solved.support, budget.pattern, budget.keep, what)
