"""A plain Hugging Face folder, written by transformers itself."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor, nn

from gossamer.core import Support
from gossamer.layout import unpack
from gossamer.ops import PackedConv2d, PackedLinear
from gossamer.store.about import About
from gossamer.store.manifest import SiteRecord
from gossamer.store.matrices import PACKED, Matrix, matrices, pack_matrix, packed_parts
from gossamer.store.shards import dense_record
from gossamer.store.skeleton import quiet


def write_plain(
    model: nn.Module, folder: Path, facts: About, supports: Mapping[str, Support]
) -> dict[str, SiteRecord]:
    """Write the model with every packed matrix unpacked; the records of its sites.

    transformers undoes its own renaming and stacking of experts, so that the folder looks like
    the one the model first came from.
    """
    found = matrices(model)
    for matrix in found:
        if matrix.name in supports:  # raises where the support would drop weights
            pack_matrix(matrix, supports[matrix.name], "dense", facts.dtype)
    state = dense_state(model, facts.dtype)
    with quiet():
        model.save_pretrained(folder, state_dict=dict(state))  # type: ignore[operator]
    if facts.tokenizer is not None:
        facts.tokenizer.save_pretrained(folder)
    for source in facts.copies:
        if not (folder / source.name).exists():
            (folder / source.name).write_bytes(source.read_bytes())
    if facts.dtype is not None:
        _set_dtype(folder / "config.json", facts.dtype)
    return {m.name: _record(m, state[m.param], facts.patterns.get(m.name)) for m in found}


def dense_state(model: nn.Module, dtype: torch.dtype | None) -> dict[str, Tensor]:
    """The state dict that the model would have without packing; tied tensors stay shared."""
    packed = {
        f"{path}.weight": module for path, module in model.named_modules(remove_duplicate=False)
        if isinstance(module, PACKED)
    }
    parts = packed_parts(model)
    made: dict[int, Tensor] = {}
    state: dict[str, Tensor] = {}
    for key, tensor in model.state_dict(keep_vars=True).items():
        name = parts.get(key, key)
        if name in state:
            continue
        if id(tensor) not in made:
            value = _unpacked(packed[name]) if key in parts else tensor.detach()
            made[id(tensor)] = value.to(dtype) if dtype and value.is_floating_point() else value
        state[name] = made[id(tensor)]
    return state


def _unpacked(layer: PackedLinear | PackedConv2d) -> Tensor:
    """The dense weight in the shape that torch's own layer has."""
    weight = unpack(layer.packed)
    if isinstance(layer, PackedConv2d):
        return weight.view(layer.out_channels, layer.in_channels, *layer.window.kernel)
    return weight


def _record(matrix: Matrix, param: Tensor, pattern: str | None) -> SiteRecord:
    return dense_record(matrix.kind, param, matrix.name, pattern)


def _set_dtype(config: Path, dtype: torch.dtype) -> None:
    data = json.loads(config.read_text(encoding="utf-8"))
    data["dtype"] = str(dtype).removeprefix("torch.")
    config.write_text(json.dumps(data, indent=2, sort_keys=True) + "\n", encoding="utf-8")
