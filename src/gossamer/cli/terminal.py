"""Consoles and progress that read well in a terminal and in a pipe."""

from __future__ import annotations

import importlib
import importlib.util
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import IO

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)

PIPE_WIDTH = 120
_SECONDS_BETWEEN_LINES = 10.0

Report = Callable[[int, int, str], None]


def console(stream: IO[str] | None = None) -> Console:
    """A console on standard output (or the stream given): plain text of fixed width in a pipe."""
    target = sys.stdout if stream is None else stream
    made = Console(file=target, highlight=False)
    return made if made.is_terminal else Console(file=target, highlight=False, width=PIPE_WIDTH)


def quiet_libraries() -> None:
    """Turn off the bars that transformers draws while it loads, beside the command's own."""
    if importlib.util.find_spec("transformers") is None:
        return
    importlib.import_module("transformers.utils.logging").disable_progress_bar()
    # That turns off the hub's bars as well, and a download may take long.
    importlib.import_module("huggingface_hub.utils").enable_progress_bars()


@contextmanager
def progress() -> Iterator[Report]:
    """A ``report(done, total, text)`` that draws a bar on stderr, or prints now and then a line."""
    screen = console(sys.stderr)
    if not screen.is_terminal:
        yield line_report(sys.stderr)
        return
    columns = (
        TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(),
        TimeElapsedColumn(), TextColumn("left"), TimeRemainingColumn(),
    )
    with Progress(*columns, console=screen, transient=True) as bar:
        task = bar.add_task("starting", total=None)

        def report(done: int, total: int, text: str) -> None:
            bar.update(task, completed=done, total=total, description=text)

        yield report


def line_report(stream: IO[str], clock: Callable[[], float] = time.monotonic) -> Report:
    """A ``report(done, total, text)`` that writes at most one line every ten seconds."""
    last = [-_SECONDS_BETWEEN_LINES + clock()]

    def report(done: int, total: int, text: str) -> None:
        if clock() - last[0] >= _SECONDS_BETWEEN_LINES or done == total:
            last[0] = clock()
            stream.write(f"{done}/{total} {text}\n")
            stream.flush()

    return report
