"""The compressed-tensors bitmask reader, held to bytes written by hand and by numpy."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import save_file
from torch import Tensor, nn

from gossamer import store
from gossamer.core import StoreError, UnsupportedError
from gossamer.layout import Packed, unpack
from gossamer.store.codecs.compressed_tensors import decode
from tests.store.pruned import same, zoo

DTYPES = (torch.float32, torch.bfloat16, torch.float16, torch.float64)


def encode(weight: Tensor, two_four: bool = False) -> dict[str, Tensor]:
    """The parts as the formats' description gives them, independent of the reader."""
    mask = (weight != 0).numpy()
    if two_four:  # exactly two of four, zeros included where fewer are left
        order = weight.float().abs().numpy().reshape(-1, 4).argsort(axis=1, kind="stable")
        mask = np.zeros((weight.numel() // 4, 4), dtype=bool)
        np.put_along_axis(mask, order[:, 2:], True, axis=1)
        mask = mask.reshape(tuple(weight.shape))
    values = weight[torch.from_numpy(mask)]
    parts = {
        "compressed": values,
        "bitmask": torch.from_numpy(np.packbits(mask, axis=-1, bitorder="little")),
        "shape": torch.tensor(weight.shape),
    }
    if two_four:
        parts["compressed"] = values.reshape(weight.shape[0], weight.shape[1] // 2)
        parts["shape"] = parts["shape"].reshape(-1, 1)
    else:
        counts = np.atleast_1d(mask.sum(axis=-1))
        parts["row_offsets"] = torch.from_numpy(np.cumsum(counts, axis=0) - counts)
    return parts


def dense(item: Packed | Tensor) -> Tensor:
    """The tensor, unpacked where it is packed."""
    return unpack(item) if isinstance(item, Packed) else item


def write(folder: Path, model: nn.Module, name: str, old_names: bool = False,
          split: bool = False) -> None:
    """A Hugging Face folder whose ``.weight`` tensors are compressed."""
    state = dict(model.state_dict())
    for alias in store.about(model).tied:
        del state[alias]
    tensors: dict[str, Tensor] = {}
    for key, tensor in state.items():
        two_four = name == "sparse-24-bitmask"
        if not key.endswith(".weight") or (two_four and "proj" not in key):
            tensors[key] = tensor
            continue
        base = key if old_names else key.removesuffix(".weight")
        tensors |= {f"{base}.{part}": t for part, t in encode(tensor, two_four).items()}
    folder.mkdir()
    if split:  # parts of one tensor may lie in different files
        keys = sorted(tensors)
        save_file({k: tensors[k] for k in keys[::2]}, folder / "model-00001-of-00002.safetensors")
        save_file({k: tensors[k] for k in keys[1::2]}, folder / "model-00002-of-00002.safetensors")
    else:
        save_file(tensors, folder / "model.safetensors")
    sparsity = {"format": name, "sparsity_structure": "2:4" if "24" in name else "unstructured"}
    configure(folder, model, {"quant_method": "compressed-tensors", "sparsity_config": sparsity})


def configure(folder: Path, model: nn.Module, quantization: dict[str, Any]) -> None:
    model.config.architectures = [type(model).__name__]
    model.config.save_pretrained(folder)
    config = json.loads((folder / "config.json").read_text())
    config["quantization_config"] = quantization
    (folder / "config.json").write_text(json.dumps(config))


def test_bytes_written_by_hand() -> None:
    # Row 0 keeps columns 1, 3 and 8: bits 1 and 3 of the first byte, bit 0 of the second.
    # Row 1 keeps nothing. Row 2 keeps columns 0 and 7.
    parts = {
        "compressed": torch.tensor([1.5, -2.0, 3.0, 4.0, 5.0]),
        "bitmask": torch.tensor([[0b00001010, 0b1], [0, 0], [0b10000001, 0]], dtype=torch.uint8),
        "shape": torch.tensor([3, 9]),
        "row_offsets": torch.tensor([0, 3, 3]),
    }
    wanted = torch.tensor([[0, 1.5, 0, -2, 0, 0, 0, 0, 3], [0.0] * 9, [4, 0, 0, 0, 0, 0, 0, 5, 0]])
    found = decode("x", parts)
    assert isinstance(found, Packed)
    assert found.layout == "bitmask"
    assert torch.equal(unpack(found), wanted)


def test_two_of_four_by_hand() -> None:
    # One row: 0 a | b 0 || 0 0 | c d  ->  bits 1, 2, 6, 7.
    parts = {
        "compressed": torch.tensor([[1.0, 2.0, 3.0, 4.0]], dtype=torch.bfloat16),
        "bitmask": torch.tensor([[0b11000110]], dtype=torch.uint8),
        "shape": torch.tensor([[1], [8]]),
    }
    wanted = torch.tensor([[0, 1, 2, 0, 0, 0, 3, 4]], dtype=torch.bfloat16)
    assert torch.equal(dense(decode("x", parts)), wanted)


@settings(max_examples=40, deadline=None)
@given(shape=st.lists(st.integers(1, 19), min_size=1, max_size=3),
       dtype=st.sampled_from(DTYPES), density=st.floats(0, 1), seed=st.integers(0, 99))
def test_any_shape_and_dtype(shape: list[int], dtype: torch.dtype, density: float,
                             seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    weight = torch.randn(shape, generator=generator).to(dtype)
    weight *= torch.rand(shape, generator=generator) < density
    found = dense(decode("x", encode(weight)))
    assert found.dtype == dtype
    assert torch.equal(found, weight)


def test_parts_with_a_further_side_of_one() -> None:
    weight = torch.tensor([[0.0, 1.0, 2.0], [3.0, 0.0, 0.0]])
    parts = encode(weight)
    parts["compressed"] = parts["compressed"].unsqueeze(1)
    parts["row_offsets"] = parts["row_offsets"].unsqueeze(1)
    parts["bitmask"] = parts["bitmask"].view(torch.int8)
    assert torch.equal(dense(decode("x", parts)), weight)


@pytest.mark.parametrize("name", ["sparse-bitmask", "sparse-24-bitmask"])
@pytest.mark.parametrize(("old_names", "split"), [(False, False), (True, True)])
@pytest.mark.parametrize("architecture", ["llama", "qwen2"])
def test_folders(name: str, old_names: bool, split: bool, architecture: str,
                 tmp_path: Path) -> None:
    model, _ = zoo(architecture)
    write(tmp_path / "theirs", model, name, old_names, split)
    found = dict(store.read_foreign(tmp_path / "theirs"))
    state = model.state_dict()
    assert found.keys() == state.keys() - store.about(model).tied.keys()
    assert all(torch.equal(dense(item), state[key]) for key, item in found.items())
    store.pack(tmp_path / "theirs", tmp_path / "ours")
    assert same(model, store.load(tmp_path / "ours"))
    store.pack(tmp_path / "theirs", tmp_path / "plain", layout="dense")
    assert same(model, type(model).from_pretrained(tmp_path / "plain"))


def test_inspect_holds_the_format_to_its_name(tmp_path: Path) -> None:
    model, _ = zoo("llama")
    write(tmp_path / "m", model, "sparse-24-bitmask")
    found = store.inspect(tmp_path / "m")
    assert {row.claimed for row in found.sites} == {"2:4"}
    assert {row.layout for row in found.sites} == {"bitmask"}
    assert all("2:4" in row.conforms for row in found.sites)
    assert next(c for c in found.checks if c.id == "pattern-claim").verdict == "ok"


class TestRefused:
    """What the reader must not take as good."""

    def test_float8(self) -> None:
        parts = encode(torch.tensor([[0.0, 1.0]]))
        parts["compressed"] = parts["compressed"].to(torch.float8_e4m3fn)
        with pytest.raises(UnsupportedError, match="float8_e4m3fn"):
            decode("x", parts)

    def test_quantised_as_well(self, tmp_path: Path) -> None:
        model, _ = zoo("llama")
        write(tmp_path / "m", model, "sparse-bitmask")
        configure(tmp_path / "m", model, {
            "format": "pack-quantized", "config_groups": {"group_0": {}},
            "sparsity_config": {"format": "sparse-bitmask"},
        })
        for read in (store.read_foreign, store.inspect):
            with pytest.raises(UnsupportedError, match="pack-quantized"):
                read(tmp_path / "m")

    @pytest.mark.parametrize("part", ["compressed", "bitmask", "shape", "row_offsets"])
    def test_parts_that_contradict_one_another(self, part: str) -> None:
        parts = encode(torch.tensor([[0.0, 1.0, 2.0], [3.0, 0.0, 0.0]]))
        parts[part] = torch.cat([parts[part], parts[part]])
        with pytest.raises(StoreError, match="x is damaged"):
            decode("x", parts)

    def test_a_set_bit_beyond_the_width(self) -> None:
        parts = encode(torch.tensor([[0.0, 1.0, 2.0]]))
        parts["bitmask"] = parts["bitmask"] | 0b100000
        parts["compressed"] = torch.ones(3)
        parts["row_offsets"] = torch.tensor([0])
        with pytest.raises(StoreError, match="beyond"):
            decode("x", parts)

    def test_a_missing_shape(self) -> None:
        parts = encode(torch.ones(1, 3))
        del parts["shape"]
        with pytest.raises(StoreError, match="lacks its shape"):
            decode("x", parts)

    def test_another_format(self, tmp_path: Path) -> None:
        model, _ = zoo("llama")
        model.save_pretrained(tmp_path / "m")
        with pytest.raises(StoreError, match="sparse-bitmask and sparse-24-bitmask"):
            store.read_foreign(tmp_path / "m")

    def test_a_cut_file(self, tmp_path: Path) -> None:
        model, _ = zoo("llama")
        write(tmp_path / "m", model, "sparse-bitmask")
        path = tmp_path / "m" / "model.safetensors"
        raw = path.read_bytes()
        for length in (0, 4, 100, len(raw) // 2, len(raw) - 1):
            path.write_bytes(raw[:length])
            with pytest.raises(StoreError):
                store.pack(tmp_path / "m", tmp_path / "out")
        path.unlink()
        with pytest.raises(StoreError, match="no safetensors file"):
            store.pack(tmp_path / "m", tmp_path / "out")
