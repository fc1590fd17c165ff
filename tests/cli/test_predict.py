"""``gossamer predict`` on a configuration without weights."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from gossamer.cli import main
from gossamer.core import ConfigError, StoreError
from gossamer.measure import operations
from gossamer.measure.hardware import predict
from gossamer.models import outline
from tests import zoo


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The configuration of a tiny Llama, and nothing else."""
    place = tmp_path_factory.mktemp("outline")
    zoo.llama().config.save_pretrained(place)
    return place


def test_an_outline_has_shapes_and_no_values(folder: Path) -> None:
    model = outline(folder)
    assert {p.device.type for p in model.parameters()} == {"meta"}
    assert operations(model, 8).ops == operations(zoo.llama(), 8).ops


def test_what_is_no_model_says_so(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match="no file or folder"):
        outline("./nothing")
    with pytest.raises(StoreError, match="has no config"):
        outline(tmp_path)
    with pytest.raises(ConfigError, match="did you mean 'smollm2'"):
        outline("smollm")


def test_the_figures_are_those_of_predict(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["predict", str(folder), "--device", "s4", "--density", "0.1",
                 "--against", "t4"]) == 0
    printed = capsys.readouterr().out
    found = predict(outline(folder), "s4", 0.1)
    assert f"{found.latency * 1e3:.4g} ms a batch of 1" in printed
    assert "R = 8" in printed
    assert "not a measurement" in printed
    assert "Against NVIDIA T4 dense" in printed
    assert "linear 259x32, kept dense" in printed


def test_a_step_of_decoding(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["predict", str(folder), "--device", "h200", "--pattern", "2:4", "--length", "1",
             "--context", "50", "--batch", "4", "--dtype", "float16"]
    assert main(words) == 0
    assert "tokens a second" in capsys.readouterr().out


@pytest.mark.parametrize(("words", "sentence"), [
    (["--device", "s5"], "Unknown device 's5': did you mean 's4'?"),
    (["--device", "s4", "--density", "2"], "Density must lie in (0, 1], not 2.0."),
    (["--device", "s4", "--batch", "0"], "batch must be a whole number of at least 1, not 0."),
    (["--device", "s4", "--dtype", "fp8"], "Moffett S4 has no rate for 'fp8'"),
    (["--device", "h200", "--pattern", "2;4"], "Unknown pattern '2;4'"),
    (["--device", "h200", "--length", "0"], "length must be at least 1"),
])
def test_bad_input_is_one_sentence(
    words: list[str], sentence: str, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["predict", str(folder), *words]) == 2
    printed = capsys.readouterr().err
    assert sentence in printed
    assert printed.count("\n") == 1


def test_meta_parameters_take_no_memory(folder: Path) -> None:
    assert not any(isinstance(p, torch.Tensor) and p.untyped_storage().data_ptr()
                   for p in outline(folder).parameters())
