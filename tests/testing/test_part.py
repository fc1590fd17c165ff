"""check_part passes the parts of the house and fails on broken ones."""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import replace

import pytest
import torch
from torch import Tensor

from gossamer.core import Keep, Support
from gossamer.observe import Stats
from gossamer.prune.parts.scores import activation_scaled, magnitude
from gossamer.prune.parts.solver import Budget, Solved, Solver, one_shot
from gossamer.prune.parts.sparsegpt import ObsSettings, solve
from gossamer.testing import check_part

Score = Callable[[Tensor, Stats], Tensor]


def test_the_parts_of_the_house_pass() -> None:
    check_part(magnitude, [])
    check_part(activation_scaled, ["input_sq"])
    check_part(one_shot(activation_scaled), ["input_sq"], "solver")
    check_part(functools.partial(solve, ObsSettings()), ["input_gram"], "solver")


def scribbling(weight: Tensor, stats: Stats) -> Tensor:
    return weight.abs_()


SCORES: list[tuple[Score, list[str], str]] = [
    (activation_scaled, [], "not among the collected"),
    (magnitude, ["input_sq"], "declares 'input_sq' and does not get it"),
    (lambda w, s: w.abs() + torch.rand(()), [], "global seed"),
    (lambda w, s: w.abs()[:1], [], "does not fit the weight"),
    (lambda w, s: w.abs() / 0, [], "finite"),
    (lambda w, s: w > 0, [], "finite float"),
    (scribbling, [], "was changed"),
    (lambda w, s: None, [], "A score is a tensor"),  # type: ignore[arg-type, return-value]
]


@pytest.mark.parametrize(("score", "needs", "message"), SCORES, ids=[m for *_, m in SCORES])
def test_broken_scores_fail(score: Score, needs: list[str], message: str) -> None:
    from gossamer.core import NeedsError

    with pytest.raises((AssertionError, NeedsError), match=message):
        check_part(score, needs)


def changed(change: Callable[[Solved, Budget], Solved]) -> Solver:
    def broken(name: str, weight: Tensor, stats: Stats, budget: Budget) -> Solved:
        return change(one_shot(magnitude)(name, weight, stats, budget), budget)

    return broken


def one_more(solved: Solved, budget: Budget) -> Solved:
    mask = solved.support.mask()
    row, col = (~mask).nonzero()[0].tolist()
    mask[row, col] = True
    return replace(solved, support=Support.of(mask, solved.support.pattern))


def one_less(solved: Solved, budget: Budget) -> Solved:
    mask = solved.support.mask()
    row, col = mask.nonzero()[0].tolist()
    mask[row, col] = False
    return Solved(Support.of(mask).apply(solved.weight), Support.of(mask))


def other_row(solved: Solved, budget: Budget) -> Solved:
    """The right total, in the wrong pools."""
    mask = solved.support.mask()
    if budget.keep != Keep.fraction(0.3):
        return solved
    one = (mask[0]).nonzero()[0]
    two = (~mask[1]).nonzero()[0]
    mask[0, one], mask[1, two] = False, True
    return Solved(torch.where(mask, solved.weight, 0.0), Support.of(mask))


SOLVERS = [
    (one_more, "keeps|not 2:4"), (one_less, "keeps"), (other_row, "keeps 13|keeps 14"),
    (lambda s, b: replace(s, weight=s.weight + 1e-9), "not zero outside"),
    (lambda s, b: replace(s, weight=s.weight.double()), "not float32"),
    (lambda s, b: replace(s, weight=s.weight / 0), "not finite"),
    (lambda s, b: replace(s, weight=s.weight * (1 + torch.rand(()))), "global seed"),
]


@pytest.mark.parametrize(("change", "message"), SOLVERS, ids=[m for _, m in SOLVERS])
def test_broken_solvers_fail(
    change: Callable[[Solved, Budget], Solved], message: str
) -> None:
    with pytest.raises(AssertionError, match=message):
        check_part(changed(change), [], "solver")
