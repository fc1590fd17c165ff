"""Latency: interleaved repeats, their medians, and intervals that say what is noise."""

from __future__ import annotations

import math
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import torch

from gossamer.core import ConfigError


@dataclass(frozen=True)
class Interval:
    """A middle value with the two ends that hold the true median in at least 93 % of cases."""

    low: float
    mid: float
    high: float


def median_interval(values: Sequence[float]) -> Interval:
    """Median and its distribution-free interval from order statistics.

    The ends are the k-th smallest and k-th greatest value, with the greatest k that leaves the
    median inside in at least 93 % of cases; up to eight values these are the extremes.

    >>> median_interval([5.0, 1.0, 3.0, 2.0, 4.0])
    Interval(low=1.0, mid=3.0, high=5.0)
    """
    if not values:
        raise ConfigError("An interval needs at least one measured value, and got none.")
    ordered = sorted(values)
    count = len(ordered)
    outside, k = 0.0, 0
    for rank in range(count // 2):
        outside += math.comb(count, rank) / 2**count  # chance that the median is below this rank
        if 2 * outside > 0.07:
            break
        k = rank
    return Interval(ordered[k], statistics.median(ordered), ordered[count - 1 - k])


def time_interleaved(
    calls: Mapping[str, Callable[[], object]], repeats: int = 7, warmup: int = 1
) -> dict[str, tuple[float, ...]]:
    """Seconds of every call, timed in rounds: one run of each call, then the next round.

    A neighbour that slows the machine for a while slows all calls of that round, so ratios
    within a round stay fair. CUDA work is waited for before the clock is read.

    >>> seconds = time_interleaved({"a": lambda: None, "b": lambda: None}, repeats=3)
    >>> len(seconds["a"]), len(seconds["b"])
    (3, 3)
    """
    if repeats < 1 or warmup < 0:
        raise ConfigError(f"Timing needs repeats >= 1 and warmup >= 0, not {repeats}, {warmup}.")
    seconds: dict[str, list[float]] = {name: [] for name in calls}
    for turn in range(warmup + repeats):
        for name, call in calls.items():
            synchronize()
            start = time.perf_counter()
            call()
            synchronize()
            if turn >= warmup:
                seconds[name].append(time.perf_counter() - start)
    return {name: tuple(values) for name, values in seconds.items()}


def synchronize() -> None:
    """Wait for the CUDA work of this process, where there is any."""
    if torch.cuda.is_available():
        torch.cuda.synchronize()
