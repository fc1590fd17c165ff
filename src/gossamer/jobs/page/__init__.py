"""The frontier as a self-contained page and as a picture."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from gossamer.core import NeedsError
from gossamer.jobs.page.crossover import panel
from gossamer.jobs.page.heat import (
    HeatMaps,
    density_maps,
    error_maps,
    weight_error_maps,
)
from gossamer.jobs.page.report import Report
from gossamer.jobs.page.rows import COLUMNS, machine, table, tiles
from gossamer.jobs.page.scatter import Look, Mark, Style, anchor_x, outline, scatter
from gossamer.jobs.page.story import (
    bargains,
    best,
    headline,
    judge,
    legend,
    nearest,
    styles,
    tip,
)
from gossamer.jobs.page.words import number, times
from gossamer.measure import Point

if TYPE_CHECKING:
    from jinja2 import Environment

__all__ = ["BYTES", "TIME", "Report", "render"]

BYTES = Look("cost.disk_bytes", "size on disk, MB", 1e6)
TIME = Look("cost.seconds_per_token", "milliseconds per token", 1e-3)
_NARROW = (360, 420)


def render(report: Report) -> str:
    """The page as one HTML text that needs no other file; every text in it is escaped.

    Raises:
        NeedsError: jinja2 is not installed.
    """
    folder = Path(__file__).parent
    judged = judge(report.records, report.limit)
    by_id = {j.point.id: j for j in judged}
    looks = styles(report.records)
    points = [r.point for r in report.records if not r.failed]
    chosen = best(judged) or nearest(judged)
    densities = density_maps(report.records)
    even = tuple(m for m in densities.maps if m.summary.endswith("every matrix"))
    varied = tuple(m for m in densities.maps if m not in even)
    return _environment().from_string((folder / "page.html.j2").read_text("utf-8")).render(
        report=report, style=_raw(folder / "style.css"), script=_raw(folder / "script.js"),
        headline=headline(judged, report.limit), tiles=tiles(chosen), judged=judged,
        bargains=bargains(judged), legend=legend(report.records), looks=looks,
        tips={r.point.id: tip(r, by_id) for r in report.records},
        bytes_plot=_pair(points, looks, BYTES), time_plot=_pair(points, looks, TIME),
        columns=COLUMNS, rows=table(report.records, by_id, looks), machine=machine(report.env),
        errors=error_maps(report.records), changes=weight_error_maps(report.records),
        densities=densities, even=even,
        varied=HeatMaps(varied, densities.low, densities.high),
        samples=[r for r in report.records if r.sample],
        crossover=None if report.crossover is None else panel(report.crossover),
    )


def _pair(points: list[Point], looks: dict[str, Style], look: Look) -> dict[str, Any] | None:
    """The plot for a wide screen and for a phone."""
    wide = scatter(points, looks, look)
    narrow = scatter(points, looks, Look(look.x, look.title, look.unit, *_NARROW))
    return {"wide": wide, "narrow": narrow} if wide is not None else None


def _environment() -> Environment:
    try:
        from jinja2 import Environment, StrictUndefined
    except ImportError as error:
        raise NeedsError(
            'The page needs jinja2: pip install "gossamer[report]".'
        ) from error
    made = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True)
    made.filters |= {
        "px": lambda value: f"{value:.1f}", "times": times, "number": number,
        "outline": outline, "anchor_x": anchor_x, "glyph": _glyph,
        "day": lambda date: str(date or "")[:10],
    }
    return made


def _glyph(shape: str) -> str:
    """The outline of a shape around the origin."""
    from gossamer.jobs.page.labels import Box

    mark = Mark("", "", Style(0, shape), 0, 0, 0, 0, False, Box(0, 0, 0, 0), "", None)
    return outline(mark, 5.0)


def _raw(path: Path) -> Any:
    """A file of the package, put into the page as it is."""
    from markupsafe import Markup

    return Markup(path.read_text("utf-8"))
