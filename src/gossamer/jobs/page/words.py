"""Figures as people read them."""

from __future__ import annotations

from gossamer.measure import Interval

TIMES = "\u00d7"  # the multiplication sign
NONE = "\u2013"  # stands where nothing is known


def number(value: float | None) -> str:
    r"""Three telling digits: 27.6, 379, 2,233, 0.0031; a dash where nothing is known.

    >>> number(27.62), number(2233.4), number(None)
    ('27.6', '2,233', '\u2013')
    """
    if value is None:
        return NONE
    if abs(value) >= 1e6:
        return f"{value:.1e}"
    if abs(value) >= 100:
        return f"{value:,.0f}"
    if abs(value) >= 0.1 or value == 0:
        return f"{value:.1f}" if abs(value) >= 10 else f"{value:.2f}"
    return f"{value:.2g}"


def size(count: float | None) -> str:
    """Bytes in decimal units: 152 MB, 1.08 GB.

    >>> size(152_300_000)
    '152 MB'
    """
    if count is None:
        return NONE
    for unit, scale in (("GB", 1e9), ("MB", 1e6), ("kB", 1e3)):
        if count >= scale:
            return f"{count / scale:.{3 if count < 1e3 * scale else 9}g} {unit}"
    return f"{count:.0f} B"


def times(ratio: float | None) -> str:
    """A ratio with its sign: 1.42×."""
    return NONE if ratio is None else f"{number(ratio)}{TIMES}"


def span(interval: Interval | None) -> str:
    """The ends of a ratio's interval, or nothing where they fall together."""
    if interval is None or number(interval.low) == number(interval.high):
        return ""
    return f"{number(interval.low)} to {number(interval.high)}"


def milliseconds(seconds: float | None) -> str:
    """Seconds as milliseconds: 25.3 ms."""
    return NONE if seconds is None else f"{number(1000 * seconds)} ms"


def listed(names: list[str]) -> str:
    """Names as a sentence joins them: a, b and c."""
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}"
