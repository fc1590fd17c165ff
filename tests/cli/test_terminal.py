"""Progress and tables where there is no terminal."""

from __future__ import annotations

import io

import pytest

from gossamer.cli.terminal import PIPE_WIDTH, console, line_report, progress


def test_lines_are_spaced_in_time_and_the_last_one_is_always_written() -> None:
    now = [0.0]
    stream = io.StringIO()
    report = line_report(stream, clock=lambda: now[0])
    for done in range(1, 31):
        now[0] = done
        report(done, 30, f"block {done}")
    lines = stream.getvalue().splitlines()
    assert lines == ["1/30 block 1", "11/30 block 11", "21/30 block 21", "30/30 block 30"]


def test_without_a_terminal_progress_writes_plain_lines(
    capsys: pytest.CaptureFixture[str],
) -> None:
    with progress() as report:
        report(3, 3, "done")
    assert capsys.readouterr().err == "3/3 done\n"


def test_a_pipe_has_a_fixed_width_and_no_colour() -> None:
    stream = io.StringIO()
    console(stream).print("[bold]" + "x" * (PIPE_WIDTH - 20) + "[/bold]")
    assert stream.getvalue() == "x" * (PIPE_WIDTH - 20) + "\n"
