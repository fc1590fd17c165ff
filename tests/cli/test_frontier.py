"""``gossamer frontier``: options become a job, and what the job found is printed."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from gossamer.cli import main
from gossamer.jobs import FrontierJob, Outcome, live


@pytest.fixture
def called(monkeypatch: pytest.MonkeyPatch) -> list[tuple[FrontierJob, Path, bool]]:
    """The jobs that the command asked for, none of them run."""
    calls: list[tuple[FrontierJob, Path, bool]] = []

    def run_live(console: Any, job: FrontierJob, out: Path, resume: bool) -> Outcome:
        calls.append((job, out, resume))
        return Outcome((), "Nothing pays.", out / "frontier.html", ("A note.",))

    monkeypatch.setattr(live, "run_live", run_live)
    return calls


def test_without_options_it_is_the_default_job(
    called: list[tuple[FrontierJob, Path, bool]], capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["frontier", "smollm2"]) == 0
    assert called == [(FrontierJob(), Path("frontier-out"), True)]
    lines = capsys.readouterr().out.splitlines()
    assert lines[:2] == ["A note.", "Nothing pays."]
    assert lines[2].endswith("frontier-out/frontier.html")


def test_options_reach_the_job(called: list[tuple[FrontierJob, Path, bool]]) -> None:
    assert main([
        "frontier", "m", "--systems", "wanda", "dsnot", "--targets", "2:4", "--densities", "0.3",
        "--text", "t.txt", "--evaluation", "e.txt", "--budget", "3", "--tokens", "4096",
        "--seed", "7", "--limit", "1.5", "--out", "o", "--restart",
    ]) == 0
    job = FrontierJob("m", ("wanda", "dsnot"), ("2:4", "0.3"), "t.txt", "e.txt", 3.0, 4096, 7, 1.5)
    assert called == [(job, Path("o"), False)]


def test_the_command_that_a_page_prints_gives_the_same_job(
    called: list[tuple[FrontierJob, Path, bool]]
) -> None:
    job = FrontierJob("m", ("wanda",), ("50%", "2:4"), "t.txt", tokens=2048, seed=3, limit=2.0)
    words = job.command(2048).split()
    assert words[0] == "gossamer"
    assert main(words[1:]) == 0
    assert called[0][0] == job


@pytest.mark.parametrize(("words", "sentence"), [
    (["--systems", "wannda"], "did you mean 'wanda'?"),
    (["--systems", "ten-lessons"], "ten-lessons prunes nothing"),
    (["--budget", "0"], "must be greater than 0"),
    (["--seed", "-1"], "must be at least 0"),
    (["--limit", "0.9"], "must be at least 1"),
])
def test_bad_options_are_one_sentence(
    words: list[str], sentence: str, called: list[tuple[FrontierJob, Path, bool]],
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert main(["frontier", "m", *words]) == 2
    assert sentence in capsys.readouterr().err
    assert called == []
