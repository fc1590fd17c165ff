"""Folders whose checksums fit and whose content does not: each is refused in one sentence."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import nn

from gossamer import store
from gossamer.core import GossamerError, StoreError
from tests.faults.fuzz_folders import _resign, _sign
from tests.store.pruned import mlp, prune, zoo


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Three packed layers."""
    model = mlp()
    prune(model, "rows")
    return store.save(model, tmp_path / "m", layout="csr")


def manifest(folder: Path, change: Callable[[Any], object]) -> None:
    """Change gossamer.json and sign it."""
    data = json.loads((folder / "gossamer.json").read_text())
    change(data)
    _sign(folder / "gossamer.json", data)


def tensors(folder: Path, change: Callable[[dict[str, torch.Tensor]], object]) -> None:
    """Change the tensors and every checksum."""
    path = folder / "model.safetensors"
    held = load_file(path)
    change(held)
    save_file({name: tensor.contiguous() for name, tensor in held.items()}, path)
    _resign(folder)


def test_a_tie_that_contradicts_the_tensors(folder: Path) -> None:
    manifest(folder, lambda data: data["tied"].update({"0.bias": "3.bias"}))
    with pytest.raises(StoreError, match=r"holds 0\.bias and says that it is that of 3\.bias"):
        store.load(folder, into=mlp())


def test_a_tie_of_other_shapes(folder: Path) -> None:
    tensors(folder, lambda held: held.pop("0.bias"))
    manifest(folder, lambda data: data["tied"].update({"0.bias": "3.bias"}))
    with pytest.raises(StoreError, match=r"0\.bias of shape \(3,\)"):
        store.load(folder, into=mlp())


def test_a_weight_that_is_there_twice(folder: Path) -> None:
    tensors(folder, lambda held: held.update({"0.weight": torch.ones(17, 24)}))
    with pytest.raises(StoreError, match=r"0\.weight twice"):
        store.load(folder, into=mlp())


def test_numbers_that_were_floats(folder: Path) -> None:
    tensors(folder, lambda held: held.update({"0.bias": held["0.bias"].view(torch.int32)}))
    with pytest.raises(StoreError, match=r"0\.bias of shape \(17,\), which in shape or dtype"):
        store.load(folder, into=mlp())
    store.inspect(folder)


def test_tensors_of_unsigned_numbers_are_counted(folder: Path) -> None:
    kinds = (torch.uint16, torch.uint32, torch.uint64, torch.float8_e4m3fn)
    tensors(folder, lambda held: held.update(
        {f"x{i}": torch.tensor([0, 1, 2]).to(kind) for i, kind in enumerate(kinds)}))
    found = {other.name: other.nonzeros for other in store.inspect(folder).others}
    assert [found[f"x{i}"] for i in range(4)] == [2, 2, 2, 2]


def _fields() -> Iterator[tuple[str, Callable[[Any], object]]]:
    name = "0.weight"
    for value in ([], {}, 3, None, 1.5):
        yield f"layout {value}", lambda d, v=value: d["sites"][name].update(layout=v)
        yield f"kind {value}", lambda d, v=value: d["sites"][name].update(kind=v)
        yield f"file {value}", lambda d, v=value: d["sites"][name].update(file=v)
        yield f"parts {value}", lambda d, v=value: d["sites"][name].update(parts=[v])
        yield f"tied {value}", lambda d, v=value: d["tied"].update({"0.bias": v})
    for value in (float("inf"), -1, "17", True, 1 << 70):
        yield f"rows {value}", lambda d, v=value: d["sites"][name].update(shape=[v, 24])
        yield f"size {value}", lambda d, v=value: d["files"]["model.safetensors"].update(size=v)
    for value in (5, ["2:4"], "2:", "nothing"):
        yield f"pattern {value}", lambda d, v=value: d["sites"][name].update(pattern=v)


@pytest.mark.parametrize(("named", "change"), _fields(), ids=lambda v: v if type(v) is str else "")
def test_fields_of_another_type(folder: Path, named: str, change: Callable[[Any], object]) -> None:
    manifest(folder, change)
    with pytest.raises(StoreError):
        store.load(folder, into=mlp())
    with pytest.raises(GossamerError):
        store.inspect(folder)


def test_a_plain_folder_that_lacks_a_weight_is_not_made_up(tmp_path: Path) -> None:
    folder = store.save(zoo("llama")[0], tmp_path / "m", layout="dense")
    tensors(folder, lambda held: held.pop("model.layers.1.mlp.up_proj.weight"))
    with pytest.raises(StoreError, match="transformers would make it up"):
        store.load(folder)


def test_a_plain_folder_with_a_damaged_header(tmp_path: Path) -> None:
    folder = store.save(zoo("llama")[0], tmp_path / "m", layout="dense")
    path = folder / "model.safetensors"
    path.write_bytes(path.read_bytes() + b"\0\0\0\0")
    _resign(folder)
    with pytest.raises(StoreError, match="header"):
        store.load(folder)


def test_a_class_that_is_no_model(tmp_path: Path) -> None:
    folder = store.save(zoo("llama")[0], tmp_path / "m", layout="bitmask")
    manifest(folder, lambda data: data["model"].update({"class": "utils"}))
    with pytest.raises(GossamerError, match="no model 'utils'"):
        store.load(folder)


@pytest.mark.parametrize("entry", [
    {"dtype": "F32", "shape": [-1, -2], "data_offsets": [0, 8]},
    {"dtype": "F32", "shape": [1 << 40, 1 << 40], "data_offsets": [0, 0]},
    {"dtype": "F32", "shape": [1 << 70, 0], "data_offsets": [0, 0]},
    {"dtype": "F32", "shape": [True, 2], "data_offsets": [0, 8]},
    {"dtype": "F32", "shape": "12", "data_offsets": [0, 8]},
    {"dtype": ["F32"], "shape": [2], "data_offsets": [0, 8]},
    {"dtype": "BOOL", "shape": [8], "data_offsets": [0, 8]},
])
def test_headers_of_shapes_that_no_tensor_has(entry: dict[str, Any], tmp_path: Path) -> None:
    head = json.dumps({"a": entry}).encode()
    body = b"\x02" * entry["data_offsets"][1]
    path = tmp_path / "a.safetensors"
    path.write_bytes(len(head).to_bytes(8, "little") + head + body)
    record = store.digest.FileRecord(path.stat().st_size,
                                     hashlib.sha256(path.read_bytes()).hexdigest())
    with pytest.raises(StoreError):
        store.safetensor.read_file(path, record)


def test_a_buffer_of_another_kind(tmp_path: Path) -> None:
    def net() -> nn.Sequential:
        return nn.Sequential(nn.Linear(4, 4), nn.BatchNorm1d(4), nn.Linear(4, 4))

    folder = store.save(net(), tmp_path / "m", layout="bitmask")
    tensors(folder, lambda held: held.update(
        {"1.num_batches_tracked": torch.tensor(1.5, dtype=torch.float64)}))
    with pytest.raises(StoreError, match="num_batches_tracked"):
        store.load(folder, into=net())
