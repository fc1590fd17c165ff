"""Grouped N:M: the order of patterns, the assignment of rows, and what it keeps."""

from __future__ import annotations

import itertools

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import linear_sum_assignment
from torch import Tensor

from gossamer.core import (
    DataError,
    Pattern,
    PatternError,
    Support,
    group_nm,
    nm,
    parse_pattern,
    select,
)
from gossamer.core.grouped import arrange, assign, combinations, grid, in_runs, table


@pytest.mark.parametrize(("n", "m"), [(1, 1), (1, 4), (2, 4), (3, 6), (2, 7), (5, 5)])
def test_neighbours_differ_in_one_place_and_all_choices_appear_once(n: int, m: int) -> None:
    found = combinations(n, m)
    assert sorted(found) == list(itertools.combinations(range(m), n))
    for one, two in itertools.pairwise(found):
        assert len(set(one) & set(two)) == n - 1


def optimum(score: Tensor, n: int, m: int, g: int) -> float:
    """What the best assignment of rows to slots keeps, by the Hungarian method."""
    worth = in_runs(score.double(), grid((len(score), score.shape[1]), n, m, g)) @ (
        table(n, m).double().t().repeat_interleave(g, 1))
    return float(sum(
        run[linear_sum_assignment(run.numpy(), maximize=True)].sum() for run in worth))


@given(st.sampled_from([(1, 2, 1), (2, 4, 2), (1, 3, 3), (3, 4, 1)]), st.integers(0, 1000))
@settings(max_examples=40, deadline=None)
def test_close_to_the_best_and_every_pattern_equally_often(
    shape: tuple[int, int, int], seed: int
) -> None:
    n, m, g = shape
    score = torch.rand(2 * grid((1, 1), n, m, g).height, 3 * m,
                       generator=torch.Generator().manual_seed(seed))
    mask = assign(score, n, m, g)
    assert bool((mask.view(len(mask), -1, m).sum(-1) == n).all())
    assert arrange(mask, n, m, g) is not None
    best = optimum(score, n, m, g)
    assert 0.95 * best <= float(score[mask].sum()) <= best + 1e-4


@pytest.mark.parametrize(("n", "m", "g", "exact", "plain"), [
    (2, 4, 4, 0.737, 0.748), (2, 4, 16, 0.742, 0.746),
    (1, 10, 4, 0.230, 0.236), (3, 6, 4, 0.756, 0.763),
])
def test_energy_kept_of_gaussian_weights(
    n: int, m: int, g: int, exact: float, plain: float
) -> None:
    """Shares of sum |w| as measured by an independent implementation on other random weights."""
    height = grid((1, 1), n, m, g).height
    weight = torch.randn(height * max(1, 320 // height), 8 * m,
                         generator=torch.Generator().manual_seed(0)).abs()
    total = float(weight.sum())
    ours = float(weight[assign(weight, n, m, g)].sum()) / total
    best = optimum(weight, n, m, g) / total
    free = float(weight[select(weight, nm(n, m)).mask()].sum()) / total
    assert best == pytest.approx(exact, abs=0.012)
    assert free == pytest.approx(plain, abs=0.012)
    assert best >= 0.96 * free
    assert ours >= 0.98 * best
    assert ours > n / m


def test_larger_groups_keep_more() -> None:
    weight = torch.randn(192, 64, generator=torch.Generator().manual_seed(1)).abs()
    kept = [float(weight[assign(weight, 2, 4, g)].sum()) for g in (1, 4, 16)]
    assert kept == sorted(kept)


def test_overhanging_edges_keep_what_is_inside() -> None:
    support = select(torch.rand(7, 10), group_nm(1, 3, 2))
    assert support.shape == (7, 10)
    counts = support.mask()[:, :9].reshape(7, 3, 3).sum(-1)
    assert bool((counts == 1).all())
    support.check(group_nm(1, 3, 2))


def test_rows_that_no_order_fits_are_refused() -> None:
    mask = torch.zeros(6, 3, dtype=torch.bool)
    mask[:, 0] = True  # six rows want the pattern that two may have
    assert arrange(mask, 1, 3, 2) is None
    with pytest.raises(PatternError, match="No order of the rows"):
        Support.of(mask).check(group_nm(1, 3, 2))
    Support.of(torch.zeros(6, 3, dtype=torch.bool)).check(group_nm(1, 3, 2))


def test_rows_that_keep_less_are_moved_until_all_fit() -> None:
    mask = torch.tensor([[1, 0, 0], [0, 0, 0], [1, 1, 0], [0, 1, 0], [0, 0, 1], [1, 0, 1]]).bool()
    order = arrange(mask, 2, 3, 2)
    assert order is not None
    held = torch.empty(6, 3, dtype=torch.bool)
    held[order[0]] = table(2, 3).repeat_interleave(2, 0)
    assert not bool((mask & ~held).any())


def test_text_and_bad_input() -> None:
    assert parse_pattern("2:4:8") == group_nm(2, 4, 8)
    assert str(group_nm(2, 4, 8)) == "2:4:8"
    assert not group_nm(2, 4, 8).is_nm
    assert parse_pattern(str(parse_pattern("groups8"))) == Pattern((8, 1), (8, None))
    with pytest.raises(PatternError, match="chunks of 48 rows, too many for 23"):
        select(torch.rand(23, 8), group_nm(2, 4, 8))
    with pytest.raises(PatternError, match="grouped in N:M patterns alone"):
        Pattern(group=2)
    with pytest.raises(PatternError, match="at least 1"):
        group_nm(2, 4, 0)
    with pytest.raises(DataError, match="finite"):
        select(torch.full((8, 8), torch.inf), group_nm(1, 2, 2))
    with pytest.raises(PatternError, match="within another support"):
        select(torch.rand(8, 8), group_nm(1, 2, 2), within=Support.full(8, 8))
