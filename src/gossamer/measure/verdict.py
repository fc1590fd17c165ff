"""verdict: did it pay? Bytes, measured time and quality of a point against dense, in words."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from gossamer.core import ConfigError, DataError
from gossamer.measure.point import Point
from gossamer.measure.timing import Interval, median_interval

LIMIT = 1.25  # greatest ratio of perplexities at which a saving counts, unless asked otherwise
_MARGIN = 1.02  # a ratio nearer to one than this is called unchanged, however small the noise
_LEAST_REPEATS = 5  # below this no difference in time is claimed
_SAME_MACHINE = ("cpu", "threads", "gpu", "torch_capability")


@dataclass(frozen=True)
class Verdict:
    """Whether a point pays, and why in words.

    Args:
        paid: it gains, and its quality is within the limit.
        words: the verdict as sentences for people.
        speedup: baseline's time over the point's with its interval; None where not measured.
        bytes_ratio: the point's bytes over the baseline's; None where not known.
        quality_ratio: the point's perplexity over the baseline's; None where not known.
        beaten_by: label of a rival that is at least as good in all three and better in one.
        gains: smaller or faster, neither bigger nor slower, whatever the quality.
    """

    paid: bool
    words: str
    speedup: Interval | None = None
    bytes_ratio: float | None = None
    quality_ratio: float | None = None
    beaten_by: str | None = None
    gains: bool = False


def verdict(
    point: Point,
    baseline: Point | Sequence[Point],
    rivals: Sequence[Point] = (),
    limit: float = LIMIT,
) -> Verdict:
    """Judge a point against a baseline, or against the best of several in each figure.

    "Faster" and "slower" are said only where the interval of the measured ratio lies beyond one
    by more than two per cent, with at least five repeats on the same machine.

    Args:
        point: what is judged, by ``disk_bytes``, ``seconds_per_token`` and ``perplexity``.
        baseline: the dense model, or several forms of it (float32, bfloat16, other kernels):
            bytes are compared with the smallest, time with the fastest, quality with the best.
        rivals: other points that may make this one pointless.
        limit: greatest ratio of perplexities at which a saving still counts as one.

    >>> dense = Point({"id": "dense", "label": "dense"}, {"perplexity": 20.0}, {"disk_bytes": 100})
    >>> small = Point({"id": "s", "label": "small"}, {"perplexity": 22.0}, {"disk_bytes": 60})
    >>> print(verdict(small, dense).words)
    Pays in bytes: 0.60x the bytes. Time was not compared: it was not measured for both. \
Perplexity 22.0 against 20.0 (1.10x).
    """
    bases = [baseline] if isinstance(baseline, Point) else list(baseline)
    if not bases:
        raise ConfigError("A verdict needs at least one baseline.")
    if limit < 1:
        raise ConfigError(f"The limit is a ratio of at least 1, not {limit}.")
    size = _ratio(point, bases, "cost.disk_bytes")
    loss = _ratio(point, bases, "quality.perplexity")
    speed, reason = _speed(point, bases)
    beaten = next((r.label for r in rivals if r.id != point.id and dominates(r, point)), None)
    smaller = size is not None and size < 1 / _MARGIN
    bigger = size is not None and size > _MARGIN
    saved = smaller or is_faster(speed)
    gains = saved and not bigger and not is_slower(speed)
    paid = gains and loss is not None and loss <= limit
    sentences = [
        _costs(size, speed, paid, saved), reason, _missed(point),
        _quality(point, bases, loss, limit),
        f"{beaten} is at least as good in every figure and better in one." if beaten else "",
    ]
    words = " ".join(s for s in sentences if s)
    return Verdict(paid, words, speed, size, loss, beaten, gains)


def is_faster(speed: Interval | None) -> bool:
    """True where a measured ratio of times (baseline over point) is above one beyond the noise."""
    return speed is not None and speed.low > _MARGIN


def is_slower(speed: Interval | None) -> bool:
    """True where a measured ratio of times (baseline over point) is below one beyond the noise."""
    return speed is not None and speed.high < 1 / _MARGIN


def speedup(point: Point, baseline: Point, name: str = "seconds_per_token") -> Interval | str:
    """Baseline's time over the point's, with the interval of the median; or why there is none.

    Repeats of one interleaved session are compared round by round. Across sessions the ends of
    the two intervals are divided, which is wider.
    """
    ours, theirs = point.repeats(name), baseline.repeats(name)
    if not ours or not theirs:
        return "Time was not compared: it was not measured for both."
    if any(point.env.get(key) != baseline.env.get(key) for key in _SAME_MACHINE):
        return "Time was not compared: the two were measured on different machines or threads."
    if min(len(ours), len(theirs)) < _LEAST_REPEATS:
        return f"Time was not compared: fewer than {_LEAST_REPEATS} repeats were measured."
    if min(*ours, *theirs) <= 0:
        raise DataError(f"A measured time of {point.label} or {baseline.label} is not positive.")
    session = point.env.get("session")
    if session and session == baseline.env.get("session") and len(ours) == len(theirs):
        return median_interval([b / a for a, b in zip(ours, theirs)])
    a, b = median_interval(ours), median_interval(theirs)
    return Interval(b.low / a.high, b.mid / a.mid, b.high / a.low)


def dominates(rival: Point, point: Point) -> bool:
    """True where the rival is no worse in bytes, time and perplexity, and better in one of them.

    Times within the noise count as equal; where one lacks a figure nothing is concluded.
    """
    better = False
    for key in ("cost.disk_bytes", "quality.perplexity"):
        theirs, ours = rival.value(key), point.value(key)
        if theirs is None or ours is None or theirs > ours:
            return False
        better |= theirs < ours
    speed = speedup(rival, point)
    if isinstance(speed, str):
        return better and not rival.repeats("seconds_per_token") and not point.repeats(
            "seconds_per_token")
    return not is_slower(speed) and (better or is_faster(speed)) and speed.mid > 1 / _MARGIN


def _ratio(point: Point, bases: Sequence[Point], key: str) -> float | None:
    known = [value for base in bases if (value := base.value(key)) is not None]
    ours = point.value(key)
    return ours / min(known) if known and ours is not None and min(known) > 0 else None


def _speed(point: Point, bases: Sequence[Point]) -> tuple[Interval | None, str]:
    """Against the fastest baseline; the second item says why there is none."""
    found = [speedup(point, base) for base in bases]
    ratios = [ratio for ratio in found if isinstance(ratio, Interval)]
    if ratios:
        return min(ratios, key=lambda ratio: ratio.mid), ""
    return None, next(reason for reason in found if isinstance(reason, str))


def _costs(size: float | None, speed: Interval | None, paid: bool, saved: bool) -> str:
    bytes_words = "" if size is None else f"{size:.2f}x the bytes"
    time_words = _time_words(speed)
    figures = " and ".join(words for words in (bytes_words, time_words) if words)
    smaller = size is not None and size < 1 / _MARGIN
    if paid and smaller and is_faster(speed):
        return f"Pays in bytes and in time: {figures}."
    if paid and smaller:
        return f"Pays in bytes{', not in time' if speed is not None else ''}: {figures}."
    if paid:
        return f"Pays in time, not in bytes: {figures}."
    if saved and (is_slower(speed) or (size is not None and size > _MARGIN)):
        return f"A trade, not a gain: {figures}."
    return f"Does not pay: {figures}." if figures else "Does not pay: no cost was measured."


def _missed(point: Point) -> str:
    """What ran without a kernel while the point was timed; empty where nothing did."""
    if not point.fallbacks:
        return ""
    count = sum(point.fallbacks.values())
    return (f"Its time holds {count:,} dense products of unpacked matrices, which no kernel "
            f"covered ({'; '.join(point.fallbacks)}).")


def _time_words(speed: Interval | None) -> str:
    if speed is None:
        return ""
    spread = f"({speed.low:.2f} to {speed.high:.2f})"
    if is_faster(speed):
        return f"{speed.mid:.2f}x faster {spread}"
    if is_slower(speed):
        return f"{1 / speed.mid:.2f}x slower ({1 / speed.high:.2f} to {1 / speed.low:.2f})"
    return f"no difference in time beyond the noise ({speed.mid:.2f}x, {speed.low:.2f} to " \
           f"{speed.high:.2f})"


def _quality(
    point: Point, bases: Sequence[Point], loss: float | None, limit: float
) -> str:
    ours = point.value("quality.perplexity")
    if loss is None or ours is None:
        return "Quality was not measured for both, so nothing is claimed."
    words = f"Perplexity {_figure(ours)} against {_figure(ours / loss)} ({_figure(loss, 2)}x)"
    if loss > limit:
        return f"{words}, more than the {limit:g}x up to which a saving counts here."
    return f"{words}."


def _figure(value: float, digits: int = 1) -> str:
    """A number with the digits that can matter: 27.6, 379, 2,233, 1.2e6."""
    if value >= 1e6:
        return f"{value:.1e}"
    return f"{value:,.0f}" if value >= 100 else f"{value:.{digits}f}"
