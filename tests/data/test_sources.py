"""Text and tokens from every kind of source, and one clear sentence for each bad one."""

from __future__ import annotations

import sys
import types
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from gossamer.core import ConfigError, DataError, NeedsError
from gossamer.data import read_text


def test_embedded_parts_are_long_disjoint_english() -> None:
    calibration, evaluation = (read_text(f"embedded:{p}") for p in ("calibration", "evaluation"))
    assert isinstance(calibration, str)
    assert isinstance(evaluation, str)
    assert 150_000 < len(calibration.encode()) < 200_000
    assert 100_000 < len(evaluation.encode()) < 150_000
    assert calibration.count(" Anne ") > 50
    assert evaluation.count(" Anne ") > 50
    paragraphs = {p for p in calibration.split("\n\n") if len(p) > 80}
    assert len(paragraphs) > 300
    assert not paragraphs & set(evaluation.split("\n\n"))


def test_a_text_file_is_read_as_utf8(tmp_path: Path) -> None:
    file = tmp_path / "café.txt"
    file.write_text("née Élliot\n", encoding="utf-8")
    assert read_text(file) == read_text(str(file)) == "née Élliot\n"


@pytest.mark.parametrize("shape", [(7,), (2, 5)])
@pytest.mark.parametrize("suffix", [".pt", ".npy", ".safetensors"])
def test_token_files_give_the_tensor(tmp_path: Path, suffix: str, shape: tuple[int, ...]) -> None:
    tokens = torch.randint(0, 99, shape, dtype=torch.int32)
    file = tmp_path / f"tokens{suffix}"
    if suffix == ".pt":
        torch.save(tokens, file)
    elif suffix == ".npy":
        np.save(file, tokens.numpy())
    else:
        save_file({"ids": tokens}, file)
    read = read_text(file)
    assert isinstance(read, torch.Tensor)
    assert read.dtype == torch.int64
    assert torch.equal(read, tokens.long())


@pytest.mark.parametrize(("content", "message"), [
    (b"", "holds no text"), (b" \n\t", "holds no text"), (b"ok \xff\xfe", "not UTF-8.*byte 3"),
])
def test_bad_text_files(tmp_path: Path, content: bytes, message: str) -> None:
    file = tmp_path / "bad.txt"
    file.write_bytes(content)
    with pytest.raises(DataError, match=message):
        read_text(file)


def test_a_missing_file_says_what_can_be_given() -> None:
    with pytest.raises(DataError, match=r"embedded:calibration.*hub:NAME"):
        read_text("no/such/file.txt")


def test_an_unknown_embedded_text_suggests_the_nearest() -> None:
    with pytest.raises(ConfigError, match="did you mean 'calibration'"):
        read_text("embedded:calibrate")


@pytest.mark.parametrize("bad", ["torn", "float", "deep", "list", "two"])
def test_bad_token_files(tmp_path: Path, bad: str) -> None:
    file = tmp_path / ("two.safetensors" if bad == "two" else "tokens.pt")
    if bad == "torn":
        torch.save(torch.arange(1000), file)
        file.write_bytes(file.read_bytes()[:500])
    elif bad == "two":
        save_file({"a": torch.arange(3), "b": torch.arange(3)}, file)
    else:
        torch.save({"float": torch.ones(4), "deep": torch.ones(1, 2, 3, dtype=torch.long),
                    "list": [1, 2, 3]}[bad], file)
    with pytest.raises(DataError, match=str(file)):
        read_text(file)


class _Rows:
    """What load_dataset returns, as far as read_text looks."""

    column_names = ("text", "label")

    def __getitem__(self, column: str) -> list[str]:
        return {"text": ["one", "", "two"], "label": ["a", "b", "c"]}[column]


def _fake_datasets(monkeypatch: pytest.MonkeyPatch, error: Exception | None) -> list[object]:
    asked: list[object] = []

    def load_dataset(name: str, config: str | None, split: str) -> _Rows:
        asked.append((name, config, split))
        if error is not None:
            raise error
        return _Rows()

    module = types.ModuleType("datasets")
    module.load_dataset = load_dataset  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "datasets", module)
    return asked


def test_a_hub_data_set_is_asked_for_by_its_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = _fake_datasets(monkeypatch, None)
    assert read_text("hub:org/corpus") == "one\n\ntwo"
    assert read_text("hub:org/corpus:raw:test:label") == "a\n\nb\n\nc"
    assert asked == [("org/corpus", None, "train"), ("org/corpus", "raw", "test")]
    with pytest.raises(DataError, match="did you mean 'text'"):
        read_text("hub:org/corpus:raw:test:txt")
    with pytest.raises(DataError, match="not of the form"):
        read_text("hub:a:b:c:d:e")


def test_an_unreachable_hub_and_an_absent_package(monkeypatch: pytest.MonkeyPatch) -> None:
    _fake_datasets(monkeypatch, ConnectionError("Couldn't reach the Hub"))
    with pytest.raises(DataError, match=r"Couldn't reach the Hub.*local text file"):
        read_text("hub:org/corpus")
    monkeypatch.setitem(sys.modules, "datasets", None)
    with pytest.raises(NeedsError, match="pip install datasets"):
        read_text("hub:org/corpus")
