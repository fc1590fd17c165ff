"""A live table of the frontier in a terminal, and plain lines in a pipe."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from gossamer.jobs.frontier import Outcome, frontier
from gossamer.jobs.job import FrontierJob, point_id
from gossamer.jobs.page.words import number, size
from gossamer.jobs.record import Record

if TYPE_CHECKING:
    from rich.console import Console
    from rich.progress import Progress
    from rich.table import Table

_BASELINES = ("dense-fp32", "dense-bf16")


def run_live(
    console: Console, job: FrontierJob, out: str | Path = "frontier-out", resume: bool = True
) -> Outcome:
    """Run `frontier` with a table that fills while it runs, and a bar with the time left.

    Where the console is no terminal every finished record is one line instead.
    """
    from rich.live import Live

    screen = _Screen(job)
    if not console.is_terminal:
        return frontier(job, out, resume, finished=lambda record: console.print(
            _line(record), markup=False, highlight=False))
    with Live(get_renderable=screen.render, console=console, refresh_per_second=4):
        return frontier(job, out, resume, screen.progress, screen.finished)


class _Screen:
    """What is known so far, as one renderable."""

    def __init__(self, job: FrontierJob) -> None:
        from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn
        from rich.progress import TimeRemainingColumn as Left

        self._ids = [*_BASELINES, *(point_id(s, t) for s, t in job.points())]
        self._records: dict[str, Record] = {}
        self._now = ""
        self._bar: Progress = Progress(
            TextColumn("{task.description}"), BarColumn(), TimeElapsedColumn(),
            TextColumn("left"), Left())
        self._task = self._bar.add_task("loading the model", total=None)

    def progress(self, done: int, total: int, text: str) -> None:
        """Move the bar."""
        self._now = text.partition(":")[0]
        self._bar.update(self._task, completed=done, total=total, description=text)

    def finished(self, record: Record) -> None:
        """Fill a row."""
        if record.point.id not in self._ids:
            place = sum(id.startswith("dense-") for id in self._ids)
            self._ids.insert(place, record.point.id)
        self._records[record.point.id] = record

    def render(self) -> Table:
        """Table and bar."""
        from rich.table import Table

        table = Table(box=None, padding=(0, 2, 0, 0))
        for name in ("", "sparsity", "perplexity", "on disk", "tokens/s"):
            table.add_column(name, justify="left" if not name else "right")
        for id in self._ids:
            if id in self._records:
                table.add_row(*_cells(self._records[id]))
            else:
                table.add_row(id, "", "…" if id == self._now else "", "", "", style="dim")
        whole = Table.grid()
        whole.add_row(table)
        whole.add_row("")
        whole.add_row(self._bar)
        return whole


def _cells(record: Record) -> tuple[str, ...]:
    point = record.point
    if record.failed:
        return point.label, "", "failed", "", ""
    speed = point.value("cost.seconds_per_token")
    density = float(point.system.get("density", 1.0))
    return (
        point.label, f"{1 - density:.0%}", number(point.value("quality.perplexity")),
        size(point.value("cost.disk_bytes")), number(1 / speed) if speed else "",
    )


def _line(record: Record) -> str:
    """One record as a line."""
    label, sparsity, perplexity, bytes_, speed = _cells(record)
    if record.failed:
        return f"{label}: failed: {record.failed}"
    timed = f", {speed} tokens/s" if speed else ""
    return f"{label}: sparsity {sparsity}, perplexity {perplexity}, {bytes_}{timed}"
