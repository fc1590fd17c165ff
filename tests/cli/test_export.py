"""``gossamer export`` on tiny models."""

from __future__ import annotations

from pathlib import Path

import pytest

from gossamer.cli import main
from tests import zoo

pytest.importorskip("onnxscript")


def test_a_folder_becomes_a_file(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    zoo.llama().save_pretrained(tmp_path / "m")
    assert main(["export", str(tmp_path / "m"), "--out", str(tmp_path / "m.onnx")]) == 0
    assert "m.onnx: 0." in capsys.readouterr().out
    onnx = pytest.importorskip("onnx")
    graph = onnx.load(tmp_path / "m.onnx").graph
    assert [given.name for given in graph.input] == ["input_ids"]
    sizes = [size.dim_param for size in graph.input[0].type.tensor_type.shape.dim]
    assert sizes == ["batch", "length"]


def test_an_image_model_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    zoo.ZOO["vit"]().save_pretrained(tmp_path / "m")
    assert main(["export", str(tmp_path / "m"), "--out", str(tmp_path / "m.onnx")]) == 2
    assert "takes no input_ids" in capsys.readouterr().err
    assert not (tmp_path / "m.onnx").exists()
