"""The picture of a crossover: speed-up over density, a line a batch."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from gossamer.core import NeedsError
from gossamer.core.atomic import replacing

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from gossamer.measure.crossover import Crossover

_HUES = ("#1f6fd6", "#cf6a08", "#0f8268", "#8e44c4", "#bf2f58", "#746b00")
_INK, _SOFT, _LINE = "#1d1c1a", "#63605a", "#e4e1da"
_APART = 0.055  # least distance of two labels, as a share of the axis


def draw(found: Crossover, path: Path) -> Path:
    """Write the picture and return its path.

    Raises:
        NeedsError: matplotlib is not installed.
    """
    try:
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure
    except ImportError as error:
        raise NeedsError('The picture needs matplotlib: pip install "gossamer[report]".') from error
    figure = Figure(figsize=(7.2, 4.6), dpi=160, facecolor="white")
    FigureCanvasAgg(figure)
    axes = figure.add_axes((0.09, 0.13, 0.76, 0.68))
    _lines(axes, found)
    _frame(axes, found)
    high, wide = found.shape
    threads = found.env.get("threads", "?")
    figure.text(0.09, 0.93, f"Where sparse begins to pay: {found.op} {high}\u00d7{wide}",
                fontsize=12, weight="bold", color=_INK)
    figure.text(0.09, 0.87, f"quickest packed product over fastest dense one, {threads} "
                f"thread{'' if threads == 1 else 's'} of {found.env.get('cpu', 'this CPU')}",
                fontsize=8.5, color=_SOFT)
    with replacing(path) as temporary:
        figure.savefig(temporary, format="png")
    return path


def _lines(axes: Axes, found: Crossover) -> None:
    """A line a batch, named at its right end, with a ring where it begins to pay."""
    ends = []
    for batch, hue in zip(found.batches, _HUES * len(found.batches)):
        cells = sorted((c for c in found.cells if c.batch == batch), key=lambda c: -c.density)
        axes.plot([c.density for c in cells], [c.speedup for c in cells], color=hue, linewidth=1.8,
                  marker="o", markersize=4)
        starts = found.pays_below(batch)
        if starts is not None and starts < max(c.density for c in cells):
            axes.plot([starts], [1.0], marker="o", markersize=8, markerfacecolor="white",
                      markeredgecolor=hue, markeredgewidth=1.8, linestyle="none", zorder=5)
        words = "does not pay" if starts is None else f"pays below {starts:.2g}"
        ends.append((cells[-1].speedup, f"batch {batch}\n{words}", hue))
    axes.set_xscale("log")
    axes.set_yscale("log")
    axes.invert_xaxis()
    axes.figure.canvas.draw()
    for height, text, hue in _spread(axes, ends):
        axes.text(1.015, height, text, transform=axes.transAxes, color=hue, fontsize=7.5,
                  va="center", linespacing=1.15)


def _spread(axes: Axes, ends: list[tuple[float, str, str]]) -> list[tuple[float, str, str]]:
    """Heights of the labels as shares of the axis, moved apart where they would overlap."""
    to_axes = axes.transAxes.inverted()
    placed: list[tuple[float, str, str]] = []
    for value, text, hue in sorted(ends):
        height = float(to_axes.transform(axes.transData.transform((1.0, value)))[1])
        if placed:
            height = max(height, placed[-1][0] + 1.6 * _APART)
        placed.append((height, text, hue))
    return placed


def _frame(axes: Axes, found: Crossover) -> None:
    axes.axhline(1.0, color=_INK, linewidth=1.0)
    axes.grid(True, color=_LINE, linewidth=0.7)
    axes.set_axisbelow(True)
    axes.set_xticks(found.densities, [f"{density:g}" for density in found.densities])
    low, high = axes.get_ylim()
    ticks = [t for t in (0.1, 0.2, 0.5, 1, 2, 5, 10, 20) if low <= t <= high]
    axes.set_yticks(ticks, [f"{tick:g}\u00d7" for tick in ticks])
    axes.minorticks_off()
    axes.set_xlabel("density (share of weights kept)", color=_SOFT, fontsize=9)
    axes.tick_params(colors=_SOFT, labelsize=8.5)
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)
    for side in ("left", "bottom"):
        axes.spines[side].set_color(_LINE)
