"""Geometry of a scatter plot: quality against one cost, with the Pareto line and its labels.

The page and the picture are drawn from the same geometry, so they show the same thing.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from gossamer.jobs.page.axis import Axis, fit_axis, tick_text
from gossamer.jobs.page.labels import Box, place_labels
from gossamer.measure import Frontier, Point, median_interval

SHAPES = ("circle", "square", "triangle", "diamond", "cross")
RING = "ring"  # the shape of dense baselines


@dataclass(frozen=True)
class Style:
    """How the points of one row are told apart: a colour by system, a shape by target."""

    colour: int
    shape: str


@dataclass(frozen=True)
class Look:
    """What a plot is like.

    Args:
        x: dotted name of the cost.
        title: what stands under the axis.
        unit: the axis shows the cost divided by this.
        width: pixels.
        height: pixels.
    """

    x: str
    title: str
    unit: float
    width: int = 500
    height: int = 420


@dataclass(frozen=True)
class Tick:
    """A grid line: its pixel and its text."""

    at: float
    text: str


@dataclass(frozen=True)
class Mark:
    """A drawn point: its place, interval, label and the line that joins the two."""

    id: str
    label: str
    style: Style
    x: float
    y: float
    low: float
    high: float
    on_line: bool
    box: Box
    anchor: str
    leader: tuple[float, float, float, float] | None


@dataclass(frozen=True)
class _Room:
    """What the marks and labels have to live with."""

    frame: Box
    line: tuple[tuple[float, float], ...]
    best: set[str]


@dataclass(frozen=True)
class Scatter:
    """A plot in pixels; y grows downwards."""

    look: Look
    frame: Box
    x_ticks: tuple[Tick, ...]
    y_ticks: tuple[Tick, ...]
    y_log: bool
    x_log: bool
    marks: tuple[Mark, ...]
    line: tuple[tuple[float, float], ...]


def scatter(
    points: Sequence[Point], styles: Mapping[str, Style], look: Look
) -> Scatter | None:
    """Perplexity over one cost for all points that have both; None where fewer than two do."""
    shown = _apart([p for p in points if p.value(look.x) is not None
                    and p.value("quality.perplexity") is not None], look)
    if len(shown) < 2:
        return None
    frame = Box(66, 14, look.width - 14, look.height - 46)
    spans = {p.id: _span(p, look) for p in shown}
    ends = [value for span in spans.values() for value in span]
    x = fit_axis(ends, frame.left, frame.right, 80 / look.width)  # room for labels at the sides
    y = fit_axis([_quality(p) for p in shown], frame.bottom, frame.top)
    best = Frontier(shown).pareto(look.x)
    line = _stairs([(x.place(spans[p.id][1]), y.place(_quality(p))) for p in best], frame)
    marks = _marks(shown, styles, spans, (x, y), _Room(frame, line, {p.id for p in best}))
    return Scatter(
        look, frame, _ticks(x), _ticks(y), y.log, x.log, tuple(marks), line,
    )


def anchor_x(mark: Mark) -> float:
    """The pixel at which the label's anchor stands."""
    ends = {"start": mark.box.left, "end": mark.box.right}
    return ends.get(mark.anchor, (mark.box.left + mark.box.right) / 2)


def outline(mark: Mark, radius: float = 6.0) -> str:
    """The SVG path of a mark."""
    x, y, r = mark.x, mark.y, radius
    corners = {
        "square": ((-0.9, -0.9), (0.9, -0.9), (0.9, 0.9), (-0.9, 0.9)),
        "triangle": ((0, -1.15), (1.1, 0.85), (-1.1, 0.85)),
        "diamond": ((0, -1.25), (1.25, 0), (0, 1.25), (-1.25, 0)),
        "cross": ((-0.35, -1), (0.35, -1), (0.35, -0.35), (1, -0.35), (1, 0.35), (0.35, 0.35),
                  (0.35, 1), (-0.35, 1), (-0.35, 0.35), (-1, 0.35), (-1, -0.35), (-0.35, -0.35)),
    }
    if mark.style.shape not in corners:
        return (f"M{x - r:.1f},{y:.1f}a{r},{r} 0 1,0 {2 * r},0"
                f"a{r},{r} 0 1,0 {-2 * r},0z")
    places = (f"{x + r * a:.1f},{y + r * b:.1f}" for a, b in corners[mark.style.shape])
    return "M" + "L".join(places) + "z"


def _apart(points: Sequence[Point], look: Look) -> list[Point]:
    """The points without dense ones that lie on an earlier dense one, as other kernels do in bytes.
    """
    kept: list[Point] = []
    taken: set[tuple[float | None, float]] = set()
    for point in points:
        place = point.value(look.x), _quality(point)
        if point.system.get("system") != "dense" or place not in taken:
            kept.append(point)
        taken.add(place)
    return kept


def _span(point: Point, look: Look) -> tuple[float, float, float]:
    """Low end, middle and high end of the cost, in the axis's unit."""
    middle = point.value(look.x) or 0.0
    repeats = point.repeats(look.x.partition(".")[2])
    if not repeats:
        return middle / look.unit, middle / look.unit, middle / look.unit
    interval = median_interval(repeats)
    return interval.low / look.unit, interval.mid / look.unit, interval.high / look.unit


def _quality(point: Point) -> float:
    return point.value("quality.perplexity") or 0.0


def _marks(
    points: Sequence[Point], styles: Mapping[str, Style],
    spans: Mapping[str, tuple[float, float, float]], axes: tuple[Axis, Axis], room: _Room,
) -> list[Mark]:
    x, y = axes
    places = [(x.place(spans[p.id][1]), y.place(_quality(p))) for p in points]
    boxes = place_labels(places, [p.label for p in points], room.frame, room.line)
    return [
        Mark(p.id, p.label, styles[p.id], px, py, x.place(spans[p.id][0]),
             x.place(spans[p.id][2]), p.id in room.best, box, _anchor(px, box),
             _leader((px, py), box))
        for p, (px, py), box in zip(points, places, boxes)
    ]


def _anchor(x: float, box: Box) -> str:
    """The side of the label that stays in place whatever the width of the font."""
    if box.left > x:
        return "start"
    return "end" if box.right < x else "middle"


def _leader(
    mark: tuple[float, float], box: Box, radius: float = 7.0
) -> tuple[float, float, float, float] | None:
    """A thin line from a mark to its label, where the label had to move away."""
    x, y = mark
    near_x = min(max(x, box.left), box.right)
    near_y = min(max(y, box.top + 3), box.bottom - 3)
    distance = ((near_x - x) ** 2 + (near_y - y) ** 2) ** 0.5
    if distance < radius + 8:
        return None
    share = (radius - 1) / distance
    return x + share * (near_x - x), y + share * (near_y - y), near_x, near_y


def _ticks(axis: Axis) -> tuple[Tick, ...]:
    return tuple(Tick(axis.place(value), tick_text(value)) for value in axis.ticks())


def _stairs(
    line: Sequence[tuple[float, float]], frame: Box
) -> tuple[tuple[float, float], ...]:
    """The border between what some point reaches and what none does, as a staircase."""
    if not line:
        return ()
    path = [(line[0][0], frame.top)]
    for (x, y), (_, before) in zip(line, [(0.0, frame.top), *line]):
        path += [(x, before), (x, y)]
    return (*path[1:], (frame.right, line[-1][1]))
