"""The crossover of a frontier: what is measured, what is kept, and how the page shows it."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import pytest
import torch
from torch import nn

from gossamer.jobs import crossover as job
from gossamer.jobs.page import render
from gossamer.jobs.page.crossover import panel
from gossamer.jobs.state import State
from gossamer.measure import Crossover
from gossamer.measure.crossover import Cell
from tests import zoo
from tests.jobs import made

FOUND = Crossover("linear", (1536, 576), (
    Cell(1, 0.5, "bitmask", 2.0, "torch float32", 1.6),
    Cell(1, 0.1, "csr", 1.0, "torch float32", 1.9), Cell(16, 0.1, "csr", 1.0, "torch", 3.0),
), False, {"threads": 2, "cpu": "made up"})


def test_the_main_shape_holds_most_weights() -> None:
    assert job.main_shape(zoo.llama()) == (48, 32)
    assert job.main_shape(nn.Sequential(nn.Linear(4, 2), nn.Linear(2, 2))) == (2, 4)


def test_a_share_of_the_budget_and_no_more_than_fifteen_seconds() -> None:
    assert job.crossover_seconds(5) == 15
    assert job.crossover_seconds(1) == 3
    assert job.crossover_seconds(600) == 15


def test_it_is_measured_once_and_anew_where_it_was_damaged(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    runs: list[tuple[int, int]] = []

    def measure(op: str, shape: tuple[int, int], budget: float, progress) -> Crossover:
        runs.append(shape)
        progress(0, 1, "density")
        return FOUND

    monkeypatch.setattr(job, "crossover", measure)
    said: list[str] = []
    state = State(tmp_path)
    for shape in ((8, 8), (8, 8), (8, 16)):
        found = job.layer_crossover(state, shape, 1.0, lambda share, text: said.append(text))
        assert found.cells == FOUND.cells
    assert runs == [(8, 8), (8, 16)]
    path = tmp_path / job.NAME
    kept = json.loads(path.read_text())
    path.write_text(json.dumps({**kept, "crossover": {"shape": []}}))
    job.layer_crossover(state, (8, 16), 1.0, lambda share, text: said.append(text))
    assert len(runs) == 3
    assert any("damaged" in text for text in said)
    threads = torch.get_num_threads()
    torch.set_num_threads(threads + 1)
    job.layer_crossover(state, (8, 16), 1.0, lambda share, text: None)
    torch.set_num_threads(threads)
    assert len(runs) == 4


def test_the_panel_says_from_where_on_it_pays() -> None:
    shown = panel(FOUND)
    assert shown.densities == ("50% kept", "10% kept")
    first, second = shown.lines
    assert [field.gain for field in first.fields] == [False, True]
    assert first.pays.startswith("below ")
    assert second.fields[0].text == "\u2013"
    assert second.pays == "10% and less"
    assert "ended before" in shown.words
    nowhere = dataclasses.replace(FOUND, cells=FOUND.cells[:1], complete=True)
    assert panel(nowhere).lines[0].pays == "not here"


def test_the_page_shows_it_where_there_is_one() -> None:
    pytest.importorskip("jinja2")
    report = made.report()
    assert "begins to pay" not in render(report)
    page = render(dataclasses.replace(report, crossover=FOUND))
    assert "Where sparse begins to pay" in page
    assert "<small>csr</small>" in page
