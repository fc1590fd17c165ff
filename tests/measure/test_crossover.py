"""Crossovers: the arithmetic on made-up cells, and short measurements of small matrices."""

from __future__ import annotations

import importlib
import json
import math
from pathlib import Path

import pytest

from gossamer.core import ConfigError, DataError
from gossamer.measure import Crossover, crossover
from gossamer.measure.crossover import Cell


def made(speedups: dict[float, float], batch: int = 1) -> Crossover:
    """A crossover whose cells have these speed-ups by density."""
    cells = tuple(Cell(batch, density, "csr", 1.0, "torch float32", speed)
                  for density, speed in speedups.items())
    return Crossover("linear", (64, 64), cells, True, {"cpu": "made up", "threads": 1})


def test_the_density_is_interpolated_over_its_logarithm() -> None:
    found = made({0.1: 4 * 1.02, 0.4: 1.02 / 4})
    assert found.pays_below(1) == pytest.approx(math.sqrt(0.1 * 0.4))


def test_it_pays_everywhere_or_nowhere() -> None:
    assert made({0.1: 2.0, 0.5: 1.5}).pays_below(1) == 0.5
    assert made({0.1: 0.9, 0.5: 1.5}).pays_below(1) is None
    assert made({0.1: 1.01}).pays_below(1) is None  # within the noise
    assert made({0.1: 2.0}).pays_below(7) is None


def test_a_gap_above_ends_what_pays() -> None:
    found = made({0.1: 2.0, 0.2: 1.0, 0.3: 3.0})
    assert 0.1 < found.pays_below(1) < 0.2


def test_a_small_matrix_is_measured() -> None:
    found = crossover("linear", (96, 64), batches=(1, 3), densities=(0.5, 0.1), budget=30)
    assert found.complete
    assert found.shape == (96, 64)
    assert (found.batches, found.densities) == ([1, 3], [0.5, 0.1])
    assert {cell.dense.split()[0] for cell in found.cells} <= {"torch", "gossamer"}
    assert all(cell.seconds > 0 and cell.dense_seconds > 0 for cell in found.cells)
    assert found.cell(3, 0.1) is not None
    again = Crossover.from_json(json.loads(json.dumps(found.to_json())))
    assert again.cells == found.cells
    assert again.to_json() == found.to_json()


def test_a_budget_ends_it_with_what_there_is() -> None:
    seen: list[str] = []
    found = crossover("linear", (256, 256), batches=(1,), densities=(0.5, 0.2, 0.1, 0.05),
                      layouts="csr", budget=1e-6, progress=lambda i, n, text: seen.append(text))
    assert not found.complete
    assert found.densities == [0.5]
    assert seen[0] == "density 0.5"
    assert {cell.layout for cell in found.cells} == {"csr"}


def test_a_huge_matrix_gives_its_first_rows(monkeypatch: pytest.MonkeyPatch) -> None:
    module = importlib.import_module("gossamer.measure.crossover")  # the room's name is the call
    monkeypatch.setattr(module, "_LARGEST", 64 * 32)
    found = crossover("linear", (1000, 64), batches=(1,), densities=(0.1,), budget=1)
    assert found.shape == (32, 64)


@pytest.mark.parametrize(("given", "words"), [
    ({"op": "conv"}, "Unknown op 'conv'"),
    ({"shape": (0, 4)}, "shape and batches of at least 1"),
    ({"batches": ()}, "shape and batches"),
    ({"densities": (0.0,)}, "must lie in"),
    ({"budget": 0}, "above 0"),
    ({"layouts": "cst"}, "did you mean 'csr'"),
])
def test_bad_input_is_one_sentence(given: dict, words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        crossover(**{"shape": (8, 8), "batches": (1,), "densities": (0.5,), **given})


def test_damaged_json_is_refused() -> None:
    with pytest.raises(DataError, match="no crossover"):
        Crossover.from_json({"shape": [1, 2]})


def test_the_picture_is_written(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    path = made({0.5: 0.5, 0.1: 2.0}).plot(tmp_path / "crossover.png")
    assert path.read_bytes().startswith(b"\x89PNG")
    assert list(tmp_path.iterdir()) == [path]
