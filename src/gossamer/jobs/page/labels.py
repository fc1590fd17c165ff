"""Labels beside marks: each takes the nearest place that covers neither mark nor other label."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

_CHARACTER = 7.1  # pixels of an average character at the size of the labels
_HEIGHT = 13.0
_ROUNDS = 4


@dataclass(frozen=True)
class Box:
    """A rectangle in pixels."""

    left: float
    top: float
    right: float
    bottom: float

    def overlap(self, other: Box) -> float:
        """Shared area."""
        wide = min(self.right, other.right) - max(self.left, other.left)
        high = min(self.bottom, other.bottom) - max(self.top, other.top)
        return wide * high if wide > 0 and high > 0 else 0.0

    def inside(self, other: Box) -> bool:
        """True where it lies wholly within the other."""
        return (self.left >= other.left and self.right <= other.right
                and self.top >= other.top and self.bottom <= other.bottom)


def text_width(text: str) -> float:
    """Estimated pixels of a label."""
    return _CHARACTER * len(text)


def place_labels(
    marks: Sequence[tuple[float, float]], texts: Sequence[str], frame: Box,
    line: Sequence[tuple[float, float]] = (), radius: float = 7.0,
) -> list[Box]:
    """A box for every label, near its mark, inside the frame, with the least overlap.

    The line is a path of horizontal and vertical strokes that labels would rather not cross.

    Labels are placed one after the other, the most crowded first, and then each is moved again
    while that helps; the result depends on nothing but the arguments.
    """
    strokes = [_stroke(a, b) for a, b in pairwise(line)]
    obstacles = [Box(x - radius, y - radius, x + radius, y + radius) for x, y in marks]
    order = sorted(range(len(marks)), key=lambda i: -_crowd(marks, i))
    placed: dict[int, Box] = {}
    for _ in range(_ROUNDS):
        for i in order:
            taken = [box for j, box in placed.items() if j != i]
            options = _options(marks[i], text_width(texts[i]), radius)
            placed[i] = min(
                options,
                key=lambda option: _nearness(option, marks[i]) + _outside(option, frame)
                + _cover(option, taken, 20) + _cover(option, obstacles, 8)
                + _cover(option, strokes, 0.3) + _mistakable(option, marks, i),
            )
    return [placed[i] for i in range(len(marks))]


def _crowd(marks: Sequence[tuple[float, float]], i: int) -> float:
    x, y = marks[i]
    return sum(1 / (1 + math.hypot(x - a, (y - b) * 3)) for a, b in marks)


def _options(mark: tuple[float, float], width: float, radius: float) -> list[Box]:
    """Boxes right, left, above, below and askew of a mark, at growing distances."""
    x, y = mark
    found: list[Box] = []
    for gap in (3.0, 10.0, 20.0, 32.0, 46.0, 62.0):
        reach = radius + gap
        for angle in range(0, 360, 30):
            turn = math.radians(angle)
            cx, cy = x + reach * math.cos(turn), y + reach * math.sin(turn)
            left = cx - width * (1 - math.cos(turn)) / 2
            top = cy - _HEIGHT * (1 - math.sin(turn)) / 2
            found.append(Box(left, top, left + width, top + _HEIGHT))
    return found


def _stroke(start: tuple[float, float], end: tuple[float, float]) -> Box:
    (a, b), (c, d) = start, end
    return Box(min(a, c) - 1, min(b, d) - 1, max(a, c) + 1, max(b, d) + 1)


def _cover(option: Box, others: Sequence[Box], weight: float) -> float:
    return weight * sum(option.overlap(other) for other in others)


def _outside(option: Box, frame: Box) -> float:
    return 0.0 if option.inside(frame) else 1e4


def _mistakable(option: Box, marks: Sequence[tuple[float, float]], own: int) -> float:
    """A cost for every other mark that lies nearer to the label than its own."""
    reach = _distance(option, marks[own]) + 3
    others = (mark for i, mark in enumerate(marks) if i != own and mark != marks[own])
    return 30.0 * sum(_distance(option, mark) < reach for mark in others)


def _distance(option: Box, mark: tuple[float, float]) -> float:
    x, y = mark
    near_x = min(max(x, option.left), option.right)
    near_y = min(max(y, option.top), option.bottom)
    return math.hypot(near_x - x, near_y - y)


def _nearness(option: Box, mark: tuple[float, float]) -> float:
    """Distance from mark to label; one below the mark counts a little more than one above."""
    return _distance(option, mark) + (4.0 if option.top > mark[1] else 0.0)
