"""Safetensors files read by their headers agree with the safetensors library; torn ones do not."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import save_file

from gossamer.core import StoreError, UnsupportedError
from gossamer.models.shards import open_shards, read_header

TENSORS = {
    "f32": torch.randn(3, 5), "bf16": torch.randn(7).bfloat16(), "f16": torch.randn(2, 2).half(),
    "i64": torch.arange(4), "u8": torch.arange(6, dtype=torch.uint8), "scalar": torch.tensor(1.5),
    "bool": torch.tensor([True, False]), "empty": torch.empty(0, 4),
    "u16": torch.tensor([1, 2, 65535], dtype=torch.uint16),
}


@pytest.fixture
def file(tmp_path: Path) -> Path:
    save_file(TENSORS, tmp_path / "model.safetensors", {"format": "pt"})
    return tmp_path / "model.safetensors"


def test_every_dtype_and_shape_reads_back(file: Path) -> None:
    stored = open_shards(file.parent)
    assert stored.keys() == TENSORS.keys()
    for name, tensor in TENSORS.items():
        assert stored[name].nbytes == tensor.nbytes
        assert stored[name].dtype == tensor.dtype
        assert torch.equal(stored[name].read(), tensor)


@given(share=st.floats(0, 0.999))
@settings(max_examples=40, deadline=None)
def test_a_torn_file_is_never_read_as_good(
    share: float, tmp_path_factory: pytest.TempPathFactory
) -> None:
    file = tmp_path_factory.mktemp("torn") / "model.safetensors"
    save_file(TENSORS, file)
    whole = file.read_bytes()
    file.write_bytes(whole[: int(share * len(whole))])
    with pytest.raises(StoreError, match=r"model\.safetensors"):
        read_header(file)


def test_a_file_that_shrinks_after_opening(file: Path) -> None:
    stored = open_shards(file.parent)
    last = max(stored.values(), key=lambda entry: entry.offset + entry.nbytes)
    file.write_bytes(file.read_bytes()[:-1])
    with pytest.raises(StoreError, match="ends early"):
        last.read()
    file.unlink()
    with pytest.raises(StoreError, match="cannot be read"):
        last.read()


def _write(file: Path, header: object, data: bytes = b"\0" * 16) -> None:
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    file.write_bytes(len(text).to_bytes(8, "little") + text + data)


@pytest.mark.parametrize("header", [
    b"{not json", [1, 2], {"a": {"dtype": "F32"}}, {"a": 3},
    {"a": {"dtype": "F32", "shape": [4], "data_offsets": [0, 8]}},
    {"a": {"dtype": "F32", "shape": [4], "data_offsets": [-16, 0]}},
    {"a": {"dtype": "F32", "shape": "xx", "data_offsets": [0, 16]}},
])
def test_damaged_headers(tmp_path: Path, header: object) -> None:
    _write(tmp_path / "model.safetensors", header)
    with pytest.raises(StoreError, match="damaged"):
        open_shards(tmp_path)


def test_an_unknown_dtype_and_offsets_past_the_end(tmp_path: Path) -> None:
    entry = {"dtype": "F4", "shape": [4], "data_offsets": [0, 2]}
    _write(tmp_path / "model.safetensors", {"a": entry})
    with pytest.raises(UnsupportedError, match="a has dtype F4"):
        open_shards(tmp_path)
    _write(tmp_path / "model.safetensors",
           {"a": {"dtype": "F32", "shape": [5], "data_offsets": [0, 20]}})
    with pytest.raises(StoreError, match="ends early"):
        open_shards(tmp_path)


def _shard(folder: Path) -> Path:
    save_file({"a": torch.ones(2)}, folder / "model-00001-of-00002.safetensors")
    save_file({"b": torch.zeros(2)}, folder / "model-00002-of-00002.safetensors")
    index = folder / "model.safetensors.index.json"
    index.write_text(json.dumps({"weight_map": {
        "a": "model-00001-of-00002.safetensors", "b": "model-00002-of-00002.safetensors",
    }}))
    return index


def test_shards_are_joined_by_their_index(tmp_path: Path) -> None:
    _shard(tmp_path)
    stored = open_shards(tmp_path)
    assert torch.equal(stored["a"].read(), torch.ones(2))
    assert torch.equal(stored["b"].read(), torch.zeros(2))


def test_missing_index_shard_and_entry_are_named(tmp_path: Path) -> None:
    index = _shard(tmp_path)
    second = tmp_path / "model-00002-of-00002.safetensors"
    save_file({"c": torch.zeros(2)}, second)
    with pytest.raises(StoreError, match=f"{second.name} does not hold b"):
        open_shards(tmp_path)
    second.unlink()
    with pytest.raises(StoreError, match=f"{second.name} is missing"):
        open_shards(tmp_path)
    index.unlink()
    with pytest.raises(StoreError, match=f"{index.name} is missing"):
        open_shards(tmp_path)


@pytest.mark.parametrize("text", ["{", "[]", "{}", '{"weight_map": 3}', '{"weight_map": {"a": 1}}'])
def test_a_damaged_index(tmp_path: Path, text: str) -> None:
    _shard(tmp_path).write_text(text)
    with pytest.raises(StoreError, match=r"index\.json is damaged"):
        open_shards(tmp_path)
