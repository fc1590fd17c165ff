"""Frontier: which of several measured points nobody beats in two figures at once."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass

from gossamer.measure.point import Point, load_points, save_points


@dataclass(frozen=True)
class Frontier:
    """A set of points that were measured on the same data.

    >>> a = Point({"id": "a"}, {"perplexity": 30.0}, {"disk_bytes": 100})
    >>> b = Point({"id": "b"}, {"perplexity": 40.0}, {"disk_bytes": 60})
    >>> c = Point({"id": "c"}, {"perplexity": 50.0}, {"disk_bytes": 80})
    >>> [point.id for point in Frontier((a, b, c)).pareto("cost.disk_bytes")]
    ['b', 'a']
    """

    points: Sequence[Point]

    def pareto(self, x: str = "cost.disk_bytes", y: str = "quality.perplexity") -> list[Point]:
        """Points that no other one equals or beats in both figures and beats in one, by ``x``.

        Lower is better for both figures. Points that lack one of them are left out; of points
        that are equal in both, all stay.
        """
        placed = [(a, b, p) for p in self.points if (a := p.value(x)) is not None
                  and (b := p.value(y)) is not None]
        kept: list[Point] = []
        best, best_x = float("inf"), float("inf")
        for a, b, point in sorted(placed, key=lambda item: (item[0], item[1])):
            if b < best or (b == best and a == best_x):
                kept.append(point)
                best, best_x = b, a
        return kept

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the points as one JSON file."""
        save_points(path, self.points)

    @staticmethod
    def load(path: str | os.PathLike[str]) -> Frontier:
        """Read a frontier back."""
        return Frontier(tuple(load_points(path)))
