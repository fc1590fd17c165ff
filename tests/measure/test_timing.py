"""Intervals from order statistics, and interleaving."""

from __future__ import annotations

import itertools
import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gossamer.core import ConfigError
from gossamer.measure import median_interval, time_interleaved


@given(st.lists(st.floats(1e-6, 1e3), min_size=1, max_size=40))
def test_interval_holds_the_median_and_real_values(values: list[float]) -> None:
    found = median_interval(values)
    assert found.low <= found.mid <= found.high
    assert {found.low, found.high} <= set(values)


@pytest.mark.parametrize("count", [5, 8, 9, 15])
def test_interval_covers_the_true_median(count: int) -> None:
    """Coverage counted over random draws is at least what the docstring promises."""
    rng = random.Random(0)
    inside = 0
    for _ in range(2000):
        found = median_interval([rng.gauss(0, 1) for _ in range(count)])
        inside += found.low <= 0 <= found.high
    assert inside / 2000 > 0.92


def test_interval_narrows_with_more_repeats() -> None:
    assert median_interval(range(9)).low == 1
    assert median_interval(range(8)).low == 0


def test_no_value_is_refused() -> None:
    with pytest.raises(ConfigError, match="at least one"):
        median_interval([])


def test_rounds_are_interleaved_and_warm_up_is_left_out() -> None:
    order: list[str] = []
    seconds = time_interleaved(
        {"a": lambda: order.append("a"), "b": lambda: order.append("b")}, repeats=3, warmup=2)
    assert order == list(itertools.islice(itertools.cycle("ab"), 10))
    assert len(seconds["a"]) == len(seconds["b"]) == 3
    assert min(seconds["a"]) >= 0


def test_bad_counts_are_refused() -> None:
    with pytest.raises(ConfigError, match="repeats"):
        time_interleaved({}, repeats=0)
