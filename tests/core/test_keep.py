"""Keep: one stated rounding, exact counts."""

from __future__ import annotations

import math
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gossamer.core import Keep, PatternError


@given(st.integers(1, 999), st.integers(0, 10**7))
def test_fractions_floor_the_pruned_count_of_the_decimal_number(mill: int, pool: int) -> None:
    pruned = math.floor((1 - Fraction(mill, 1000)) * pool)
    assert Keep.fraction(mill / 1000).units(pool) == pool - pruned


def test_thirty_percent_of_ten_is_three() -> None:
    assert Keep.fraction(0.7).units(10) == 7
    assert Keep.fraction(1 - 0.7).units(10) == 3
    assert Keep.fraction(0.1).units(10) == 1
    assert Keep.fraction(1.0).units(7) == 7


def test_a_pool_of_a_billion_is_still_exact() -> None:
    pool = 2 * 10**9 + 1
    assert Keep.fraction(0.5).units(pool) == pool - 10**9


@given(st.floats(1e-6, 1.0), st.integers(1, 10**6))
def test_something_is_kept_and_never_more_than_all(density: float, pool: int) -> None:
    assert 1 <= Keep.fraction(density).units(pool) <= pool


@pytest.mark.parametrize("density", [0.0, -0.1, 1.1, math.nan, math.inf])
def test_densities_lie_in_the_half_open_unit_interval(density: float) -> None:
    with pytest.raises(PatternError, match=r"\(0, 1\]"):
        Keep.fraction(density)
    with pytest.raises(PatternError, match=r"\(0, 1\]"):
        Keep.mass(density)


@pytest.mark.parametrize("units", [-1, 1.5, math.nan, math.inf])
def test_counts_are_whole(units: float) -> None:
    with pytest.raises(PatternError, match="whole number"):
        Keep.count(units)  # type: ignore[arg-type]


def test_thresholds_and_scores() -> None:
    with pytest.raises(PatternError, match="nan"):
        Keep.above(math.nan)
    for keep in (Keep.above(0.0), Keep.mass(0.5)):
        with pytest.raises(PatternError, match="depends on the scores"):
            keep.units(4)
    with pytest.raises(PatternError, match="Cannot keep 5 units of a pool of 4"):
        Keep.count(5).units(4)
