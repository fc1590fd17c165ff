"""The two scatter plots as one PNG, from the geometry that the page uses."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from gossamer.core import NeedsError
from gossamer.core.atomic import replacing
from gossamer.jobs.page import BYTES, TIME, Report
from gossamer.jobs.page.scatter import Scatter, anchor_x, scatter
from gossamer.jobs.page.story import headline, judge, legend, styles

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_HUES = ("#4a4743", "#1f6fd6", "#cf6a08", "#0f8268", "#8e44c4", "#bf2f58", "#746b00")
_MARKERS = {"circle": "o", "square": "s", "triangle": "^", "diamond": "D", "cross": "P",
            "ring": "o"}
_SIDES = {"start": "left", "end": "right", "middle": "center"}
_INK, _SOFT, _LINE = "#1d1c1a", "#63605a", "#e4e1da"
_POINT = 72 / 100  # points of type per pixel of the geometry, at the figure's 100 pixels an inch


def draw(report: Report, path: Path) -> None:
    """Write the picture; at twice the resolution of the page's plots.

    Raises:
        NeedsError: matplotlib is not installed.
    """
    try:
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure
    except ImportError as error:
        raise NeedsError(
            'The picture needs matplotlib: pip install "gossamer[report]".'
        ) from error
    looks = styles(report.records)
    points = [r.point for r in report.records if not r.failed]
    plots = [p for look in (BYTES, TIME) if (p := scatter(points, looks, look)) is not None]
    width, height = 20 + 540 * max(1, len(plots)), 542
    figure = Figure(figsize=(width / 100, height / 100), dpi=200, facecolor="white")
    FigureCanvasAgg(figure)
    _title(figure.add_axes((0, 0, 1, 1)), report, (width, height))
    for i, plot in enumerate(plots):
        left, top = (20 + 540 * i) / width, 110 / height
        share = (plot.look.width / width, plot.look.height / height)
        _plot(figure.add_axes((left, 1 - top - share[1], *share)), plot)
    with replacing(path) as temporary:
        figure.savefig(temporary, format="png")


def _title(axes: Axes, report: Report, size: tuple[int, int]) -> None:
    """Headline, model and legend, in pixels of the whole figure."""
    _pixels(axes, *size)
    words = headline(judge(report.records, report.limit), report.limit)
    axes.text(30, 30, words[0], fontsize=17 * _POINT, weight="bold",
              color=_INK, va="center")
    axes.text(30, 53, words[1], fontsize=12.5 * _POINT, color=_INK, va="center")
    axes.text(30, 74, f"{report.model} on {report.env.get('cpu', '')}, "
              f"threads: {report.env.get('threads', '')}", fontsize=12 * _POINT, color=_SOFT,
              va="center")
    systems, targets = legend(report.records)
    at = 34.0
    keys = [(name, "o", _HUES[colour]) for name, colour in systems]
    keys += [(name, _MARKERS[shape], _SOFT) for name, shape in targets]
    for name, marker, hue in [*keys, ("dense", "o", "white")]:
        axes.plot([at], [96], marker=marker, color=hue, markersize=8 * _POINT, linestyle="none",
                  markeredgecolor=_HUES[0] if hue == "white" else hue)
        axes.text(at + 10, 96, name, fontsize=12 * _POINT, color=_INK, va="center_baseline")
        at += 34 + 6.8 * len(name)


def _plot(axes: Axes, plot: Scatter) -> None:
    look, frame = plot.look, plot.frame
    _pixels(axes, look.width, look.height)
    small = 12 * _POINT
    for tick in plot.y_ticks:
        axes.plot([frame.left, frame.right], [tick.at] * 2, color=_LINE, linewidth=0.7)
        axes.text(frame.left - 8, tick.at, tick.text, fontsize=small, color=_SOFT, ha="right",
                  va="center")
    for tick in plot.x_ticks:
        axes.plot([tick.at] * 2, [frame.top, frame.bottom], color=_LINE, linewidth=0.7)
        axes.text(tick.at, frame.bottom + 14, tick.text, fontsize=small, color=_SOFT, ha="center",
                  va="center")
    middle = ((frame.left + frame.right) / 2, (frame.top + frame.bottom) / 2)
    axes.text(middle[0], look.height - 10, look.title + (", log scale" if plot.x_log else ""),
              fontsize=small, color=_SOFT, ha="center", va="center")
    axes.text(12, middle[1], "perplexity" + (", log scale" if plot.y_log else ""),
              fontsize=small, color=_SOFT, ha="center", va="center", rotation=90)
    axes.plot(*_columns(plot.line), color=_SOFT, linewidth=1, linestyle=(0, (5, 4)))
    _marks(axes, plot, small)


def _marks(axes: Axes, plot: Scatter, small: float) -> None:
    from matplotlib.patheffects import withStroke

    for mark in plot.marks:
        if mark.leader is not None:
            x1, y1, x2, y2 = mark.leader
            axes.plot([x1, x2], [y1, y2], color=_SOFT, linewidth=0.5, alpha=0.7)
    for mark in plot.marks:
        hue, ring = _HUES[mark.style.colour], mark.style.shape == "ring"
        if mark.high - mark.low > 1:
            axes.plot([mark.low, mark.high], [mark.y] * 2, color=hue, linewidth=1.1, alpha=0.55)
        axes.plot([mark.x], [mark.y], marker=_MARKERS[mark.style.shape],
                  markersize=11.5 * _POINT, linestyle="none",
                  markerfacecolor="white" if ring else hue,
                  markeredgecolor=hue if ring else "white", markeredgewidth=1.5 if ring else 0.9)
        text = axes.text(
            anchor_x(mark), (mark.box.top + mark.box.bottom) / 2, mark.label, fontsize=small,
            color=_INK if mark.on_line else _SOFT, ha=_SIDES[mark.anchor], va="center")
        text.set_path_effects([withStroke(linewidth=2, foreground="white")])


def _pixels(axes: Axes, width: float, height: float) -> None:
    """Coordinates in pixels with y downwards, and nothing drawn around them."""
    axes.set_xlim(0, width)
    axes.set_ylim(height, 0)
    axes.axis("off")


def _columns(path: Sequence[tuple[float, float]]) -> tuple[list[float], list[float]]:
    return [x for x, _ in path], [y for _, y in path]
