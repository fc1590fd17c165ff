"""Axes: where a value falls in pixels, and which ticks are worth printing."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

_LOG_ABOVE = 4.0  # values that differ by more than this ratio are shown on a logarithmic axis
_SUBDIVISIONS = ((1.0,), (1.0, 3.0), (1.0, 2.0, 5.0), (1.0, 1.5, 2.0, 3.0, 5.0, 7.0))


@dataclass(frozen=True)
class Axis:
    """A linear or logarithmic scale from values to pixels.

    Args:
        low: value at the first pixel.
        high: value at the last pixel.
        log: logarithmic, for values whose ratio is large.
        first: pixel of ``low``.
        last: pixel of ``high``; smaller than ``first`` where the axis points up.
    """

    low: float
    high: float
    log: bool
    first: float
    last: float

    def place(self, value: float) -> float:
        """The pixel of a value."""
        if self.log:
            share = math.log(value / self.low) / math.log(self.high / self.low)
        else:
            share = (value - self.low) / (self.high - self.low)
        return self.first + share * (self.last - self.first)

    def ticks(self) -> list[float]:
        """Round values inside the axis, four to seven where possible."""
        if not self.log or self.high / self.low < 2.5:
            return _linear_ticks(self.low, self.high)
        found: list[float] = []
        for steps in _SUBDIVISIONS:
            found = _log_ticks(self.low, self.high, steps)
            if len(found) >= 4:
                break
        return found[:: max(1, math.ceil(len(found) / 7))]


def fit_axis(values: Sequence[float], first: float, last: float, margin: float = 0.08) -> Axis:
    """The axis that holds all values with a margin; logarithmic where their ratio is large.

    >>> fit_axis([20.0, 2000.0], 0, 100).log
    True
    """
    low, high = min(values), max(values)
    if low > 0 and high / low > _LOG_ABOVE:
        spread = math.log(high / low) * margin
        return Axis(low * math.exp(-spread), high * math.exp(spread), True, first, last)
    spread = (high - low) * margin or abs(high) * 0.2 or 1.0
    return Axis(max(low - spread, 0.0) if low >= 0 else low - spread, high + spread, False,
                first, last)


def tick_text(value: float) -> str:
    """A tick's label: 0.5, 30, 2,000, 1e+06."""
    if abs(value) >= 1e6:
        return f"{value:.0e}"
    return f"{value:,.0f}" if abs(value) >= 100 or value == int(value) else f"{value:g}"


def _linear_ticks(low: float, high: float) -> list[float]:
    rough = (high - low) / 5
    unit = 10.0 ** math.floor(math.log10(rough))
    step = min((s * unit for s in (1, 2, 2.5, 5, 10)), key=lambda s: abs(s - rough))
    first = math.ceil(low / step - 1e-9)
    return [round(k * step, 12) for k in range(first, math.floor(high / step + 1e-9) + 1)]


def _log_ticks(low: float, high: float, steps: Sequence[float]) -> list[float]:
    decades = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    every = (round(step * 10.0**decade, 12) for decade in decades for step in steps)
    return [value for value in every if low <= value <= high]
