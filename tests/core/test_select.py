"""select against a brute-force sort: exact budgets, ties to the lower index, ragged pools."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from gossamer.core import (
    DataError,
    Keep,
    Pattern,
    PatternError,
    Support,
    SupportError,
    block,
    columns,
    nm,
    rows,
    select,
    unstructured,
)

# Few distinct values, so that ties are everywhere; both zeros, which are equal.
LEVELS = [-2.0, -0.0, 0.0, 0.5, 1.0, 3.0, math.inf, -math.inf]


@st.composite
def matrices(draw: st.DrawFn, row_step: int = 1, col_step: int = 1) -> Tensor:
    high = draw(st.integers(1, 6)) * row_step
    wide = draw(st.integers(1, 24)) * col_step
    values = draw(st.lists(st.sampled_from(LEVELS), min_size=high * wide, max_size=high * wide))
    return torch.tensor(values).view(high, wide)


densities = st.floats(0.01, 1.0)


def pools_of(shape: tuple[int, int], pattern: Pattern) -> list[list[tuple[int, int]]]:
    """Units of every pool, as (row, column) of units, row by row."""
    high, wide = shape[0] // pattern.unit[0], shape[1] // pattern.unit[1]
    tall = (pattern.pool[0] or shape[0]) // pattern.unit[0]
    broad = (pattern.pool[1] or shape[1]) // pattern.unit[1]
    return [
        [(r, c) for r in range(top, min(top + tall, high))
         for c in range(left, min(left + broad, wide))]
        for top in range(0, high, tall) for left in range(0, wide, broad)
    ]


def reference(score: Tensor, pattern: Pattern, keep: Keep, allowed: Tensor | None = None) -> Tensor:
    """Sort the units of every pool in plain Python and keep the first ones."""
    h, w = pattern.unit
    mask = torch.zeros_like(score, dtype=torch.bool)
    for pool in pools_of((score.shape[0], score.shape[1]), pattern):
        cells = [(slice(r * h, r * h + h), slice(c * w, c * w + w)) for r, c in pool]
        value = [float(score[cell].sum()) for cell in cells]
        inside = [i for i, cell in enumerate(cells) if allowed is None or bool(allowed[cell].all())]
        count = min(keep.units(len(cells)), len(inside))
        for i in sorted(inside, key=lambda i: (-value[i], i))[:count]:
            mask[cells[i]] = True
    return mask


@settings(max_examples=40, deadline=None)
@given(matrices(), densities, st.sampled_from([unstructured(), rows(), columns(5), columns(64),
                                              Pattern(pool=(2, 3)), Pattern(pool=(4, None))]))
def test_fractions_agree_with_a_sort(score: Tensor, density: float, pattern: Pattern) -> None:
    keep = Keep.fraction(density)
    chosen = select(score, pattern, keep)
    assert torch.equal(chosen.mask(), reference(score, pattern, keep))
    sizes = [len(pool) for pool in pools_of((score.shape[0], score.shape[1]), pattern)]
    assert chosen.nnz == sum(keep.units(size) for size in sizes)


@settings(max_examples=40, deadline=None)
@given(st.integers(33, 200), st.integers(0, 200), st.integers(1, 4), st.randoms())
def test_long_pools_agree_with_a_sort(size: int, count: int, pools: int, random: object) -> None:
    keep = Keep.count(min(count, size))
    values = [random.choice(LEVELS) for _ in range(size * pools)]  # type: ignore[attr-defined]
    score = torch.tensor(values, dtype=torch.float64).view(pools, size)
    assert torch.equal(select(score, rows(), keep).mask(), reference(score, rows(), keep))


@settings(max_examples=40, deadline=None)
@given(st.integers(1, 40), st.data())
def test_n_of_m_is_exact_for_every_n_and_m(m: int, data: st.DataObject) -> None:
    n = data.draw(st.integers(1, m))
    score = data.draw(matrices(col_step=1)).repeat(1, m)
    chosen = select(score, nm(n, m))
    assert torch.equal(chosen.mask(), reference(score, nm(n, m), Keep.count(n)))
    assert (chosen.mask().reshape(-1, m).sum(1) == n).all()
    chosen.check(nm(n, m))


@settings(max_examples=40, deadline=None)
@given(matrices(row_step=2, col_step=3), densities)
def test_blocks_are_kept_whole(score: Tensor, density: float) -> None:
    score = score.nan_to_num(neginf=-9.0, posinf=9.0)
    keep = Keep.fraction(density)
    for pattern in (block(2, 3), Pattern(unit=(2, 3), pool=(2, None))):
        chosen = select(score, pattern, keep)
        chosen.check(pattern)
        assert torch.equal(chosen.mask(), reference(score, pattern, keep))


@settings(max_examples=40, deadline=None)
@given(matrices(), densities, st.data())
def test_within_is_never_left_and_the_budget_is_filled_inside(
    score: Tensor, density: float, data: st.DataObject
) -> None:
    flags = data.draw(st.lists(st.booleans(), min_size=score.numel(), max_size=score.numel()))
    allowed = torch.tensor(flags).view(score.shape)
    for pattern in (unstructured(), rows(), columns(4)):
        chosen = select(score, pattern, Keep.fraction(density), within=Support.of(allowed)).mask()
        assert torch.equal(chosen, reference(score, pattern, Keep.fraction(density), allowed))


def test_a_unit_counts_as_within_only_as_a_whole() -> None:
    allowed = torch.ones(2, 4, dtype=torch.bool)
    allowed[1, 0] = False
    score = torch.tensor([[9.0, 9.0, 1.0, 1.0], [9.0, 9.0, 1.0, 1.0]])
    chosen = select(score, block(2, 2), Keep.count(1), within=Support.of(allowed))
    assert chosen.indices().tolist() == [[0, 2], [0, 3], [1, 2], [1, 3]]


def test_an_infinitely_low_score_still_counts() -> None:
    score = torch.tensor([[-math.inf, 1.0, -math.inf, -math.inf]])
    assert select(score, rows(), Keep.count(2)).indices().tolist() == [[0, 0], [0, 1]]
    inside = Support.of(torch.tensor([[False, True, True, True]]))
    chosen = select(score, rows(), Keep.count(2), within=inside)
    assert chosen.indices().tolist() == [[0, 1], [0, 2]]


@given(matrices(), st.floats(-3, 4))
def test_above_keeps_what_is_greater(score: Tensor, threshold: float) -> None:
    chosen = select(score, rows(), Keep.above(threshold)).mask()
    assert torch.equal(chosen, score > torch.tensor(threshold))


@given(st.lists(st.integers(0, 5), min_size=1, max_size=40), st.floats(0.01, 1.0))
def test_mass_keeps_the_fewest_that_reach_the_share(values: list[int], share: float) -> None:
    score = torch.tensor([values], dtype=torch.float64)
    chosen = select(score, rows(), Keep.mass(share)).mask()[0]
    order = sorted(range(len(values)), key=lambda i: (-values[i], i))
    count = int(chosen.sum())
    need = share * sum(values)
    assert sorted(order[:count]) == chosen.nonzero().flatten().tolist()
    assert sum(values[i] for i in order[:count]) >= need
    assert count == 0 or sum(values[i] for i in order[: count - 1]) < need


def test_mass_of_everything_leaves_zeros_out() -> None:
    score = torch.rand(4, 1000)
    score[:, 500:] = 0
    chosen = select(score, rows(), Keep.mass(1.0))
    assert torch.equal(chosen.mask(), score > 0)


def test_mass_sees_only_what_is_within() -> None:
    inside = Support.of(torch.tensor([[False, True, True, True]]))
    score = torch.tensor([[8.0, 3.0, 2.0, 1.0]])
    chosen = select(score, rows(), Keep.mass(0.8), within=inside)
    assert chosen.indices().tolist() == [[0, 1], [0, 2]]


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
def test_dtypes_and_strides_do_not_matter(dtype: torch.dtype) -> None:
    score = torch.randint(0, 9, (48, 40)).to(dtype)
    expected = select(score.double(), columns(8), Keep.fraction(0.3))
    assert select(score.t().contiguous().t(), columns(8), Keep.fraction(0.3)) == expected


def test_doubles_are_compared_as_doubles() -> None:
    score = torch.tensor([[1.0, 1.0 + 1e-12]], dtype=torch.float64)
    assert select(score, rows(), Keep.count(1)).indices().tolist() == [[0, 1]]


def test_scores_that_need_gradients_are_left_alone() -> None:
    score = torch.rand(4, 64, requires_grad=True)
    assert select(score, rows(), Keep.count(3)).nnz == 12


@settings(max_examples=5, deadline=None)
@given(st.integers(0, 99))
def test_one_big_pool_is_exact_among_massive_ties(seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    score = torch.randint(0, 7, (256, 512), generator=generator).float()
    chosen = select(score, unstructured(), Keep.fraction(0.4))
    order = score.flatten().argsort(descending=True, stable=True)
    expected = torch.zeros(score.numel(), dtype=torch.bool)
    expected[order[: Keep.fraction(0.4).units(score.numel())]] = True
    assert torch.equal(chosen.mask().flatten(), expected)


def test_an_empty_matrix_has_an_empty_support() -> None:
    assert select(torch.zeros(0, 8), rows(), Keep.fraction(0.5)).nnz == 0


def test_bad_input_is_named() -> None:
    score = torch.rand(4, 6)
    with pytest.raises(DataError, match="NaN"):
        select(score.masked_fill(score < 0.5, math.nan), rows(), Keep.fraction(0.5))
    with pytest.raises(DataError, match="NaN"):  # a block of +inf and -inf has no sum
        select(torch.tensor([[math.inf, -math.inf]]), block(1, 2), Keep.count(1))
    with pytest.raises(DataError, match="finite scores of at least 0"):
        select(score - 2, rows(), Keep.mass(0.5))
    with pytest.raises(PatternError, match="not a multiple of M=4"):
        select(score, nm(2, 4))
    with pytest.raises(PatternError, match="Cannot keep 7 units of a pool of 6"):
        select(score, rows(), Keep.count(7))
    with pytest.raises(SupportError, match="needs a budget"):
        select(score, rows())
    with pytest.raises(SupportError, match="needs a matrix"):
        select(score[0], rows(), Keep.count(1))
    with pytest.raises(SupportError, match="within has shape"):
        select(score, rows(), Keep.count(1), within=Support.full(2, 2))


@pytest.mark.gpu
def test_the_gpu_chooses_the_same() -> None:
    for score in (torch.rand(64, 512), torch.randint(0, 5, (64, 512)).float()):
        for pattern, keep in ((unstructured(), Keep.fraction(0.3)), (rows(), Keep.fraction(0.7)),
                              (nm(2, 4), None), (block(4, 4), Keep.count(99))):
            here = select(score, pattern, keep)
            assert select(score.cuda(), pattern, keep).to("cpu") == here
