"""save and write_stream: a model into a folder, all or nothing."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Iterable, Iterator, Mapping
from hashlib import sha256
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from gossamer import __version__
from gossamer.core import ConfigError, Support, UnsupportedError
from gossamer.core.errors import unknown
from gossamer.layout import CHOICES, LAYOUTS, Packed
from gossamer.store.about import About, about, write_companions
from gossamer.store.atomic import new_folder
from gossamer.store.dense import write_plain
from gossamer.store.digest import FileRecord, file_record
from gossamer.store.manifest import NAME, Manifest, SiteRecord, json_value, to_bytes
from gossamer.store.matrices import (
    Matrix,
    check_stored,
    check_supports,
    matrices,
    pack_matrix,
    packed_parts,
)
from gossamer.store.safetensor import contents
from gossamer.store.shards import SHARD_BYTES, ShardWriter

Item = tuple[str, Tensor | Packed]


def save(
    model: nn.Module,
    folder: str | os.PathLike[str],
    supports: Mapping[str, Support] | None = None,
    *,
    layout: str = "auto",
    dtype: torch.dtype | None = None,
    tokenizer: Any = None,
    system: Mapping[str, Any] | None = None,
    report: Mapping[str, Any] | None = None,
    overwrite: bool = False,
) -> Path:
    """Write a model as a folder, which appears complete or not at all.

    Every prunable matrix is stored in a layout; the rest as it is. Hugging Face models get
    their config.json. See docs/format.md for what lies in the folder.

    Args:
        model: any module with prunable matrices, or with packed layers.
        folder: a new or empty folder, or with ``overwrite`` an earlier saved model.
        supports: kept entries by site name; where absent, the non-zeros are kept.
        layout: "auto" (fewest bytes for each matrix), "decode" (fewest bytes of the layouts that
            the Decoder reads), a layout's name, or "dense" for a plain
            folder that transformers loads without gossamer.
        dtype: dtype of all floating-point tensors; None keeps each its own.
        tokenizer: Hugging Face tokenizer to save beside the model.
        system: what made the model, JSON-able.
        report: figures of the run that made it, JSON-able.
        overwrite: replace an earlier saved model.

    Returns:
        The folder.

    Raises:
        StoreError: the folder holds something else, or cannot be written.
        SupportError: a support that fits no site, or that non-zero weights lie outside of.
        PatternError: the named layout cannot hold a matrix.
        UnsupportedError: nothing prunable in the model.

    >>> import tempfile
    >>> model = nn.Sequential(nn.Linear(64, 64))
    >>> target = save(model, Path(tempfile.mkdtemp()) / "model", layout="bitmask")
    >>> sorted(path.name for path in target.iterdir())
    ['gossamer.json', 'model.safetensors']
    """
    model = getattr(model, "_orig_mod", model)  # what torch.compile wrapped
    found = matrices(model)
    chosen = supports or {}
    check_supports(chosen, found)
    check_stored(model, found)
    facts = about(model, chosen, tokenizer=tokenizer, system=system, report=report)
    facts = dataclasses.replace(facts, layout=check_layout(layout), dtype=check_dtype(dtype))
    return save_described(model, Path(folder), facts, chosen, overwrite=overwrite)


def save_described(
    model: nn.Module, folder: Path, facts: About, supports: Mapping[str, Support], *,
    overwrite: bool,
) -> Path:
    """`save` with the facts about the model given."""
    if facts.layout == "dense" and facts.config is not None:
        return _finish_plain(model, folder, facts, supports, overwrite)
    items = model_items(model, supports, facts.layout, facts.dtype, facts.tied)
    return write_stream(folder, items, facts, overwrite=overwrite)


def write_stream(
    folder: str | os.PathLike[str],
    items: Iterable[Item],
    manifest: About,
    *,
    overwrite: bool = False,
    shard_bytes: int = SHARD_BYTES,
) -> Path:
    """Write tensors and packed matrices as they come, for models that do not fit in memory.

    One item is in memory at a time. Names are those of the model's state dict; packed matrices
    carry the site's name, ``layers.0.mlp.weight`` or ``experts.gate_up_proj[3]``.

    Args:
        folder: as in `save`.
        items: ``(name, tensor or packed matrix)``, each name once.
        manifest: what to write beside them; `about` makes it from a model on the meta device.
        overwrite: replace an earlier saved model.
        shard_bytes: size at which a new safetensors file is begun.

    Raises:
        StoreError: the folder holds something else, or cannot be written.
    """
    target = Path(folder)
    texts = _texts(manifest)
    with new_folder(target, overwrite=overwrite) as temporary:
        writer = ShardWriter(temporary, manifest.kinds, manifest.patterns, shard_bytes)
        writer.write(items)
        files, sites = writer.finish()
        write_companions(temporary, manifest)
        _write_manifest(temporary, manifest, texts, files, sites)
    return target


def model_items(
    model: nn.Module,
    supports: Mapping[str, Support],
    layout: str,
    dtype: torch.dtype | None,
    tied: Mapping[str, str],
) -> Iterator[Item]:
    """The state dict of a model with every prunable matrix packed, one item at a time."""
    inside: dict[str, list[Matrix]] = {}
    for matrix in matrices(model):
        inside.setdefault(matrix.param, []).append(matrix)
    parts = packed_parts(model)
    done: set[str] = set()
    for key, tensor in model.state_dict().items():
        name = parts.get(key, key)
        if name in tied or name in done:
            continue
        done.add(name)
        if not isinstance(tensor, Tensor):
            raise UnsupportedError(f"{name} in the state dict is not a tensor; it cannot be saved.")
        whole = None if key in parts else (name, tensor)
        yield from param_items(inside.get(name, []), whole, supports, layout, dtype)


def param_items(
    inside: list[Matrix],
    whole: tuple[str, Tensor] | None,
    supports: Mapping[str, Support],
    layout: str,
    dtype: torch.dtype | None,
) -> list[Item]:
    """One parameter as the items to write: its matrices packed, or itself where dense is best.

    Args:
        inside: the prunable matrices in it.
        whole: name and tensor of the parameter; None for one matrix that is packed already.
    """
    packed = [(m.name, pack_matrix(m, supports.get(m.name), layout, dtype)) for m in inside]
    if any(item.layout != "dense" for _, item in packed):
        return [*packed]
    if whole is None:
        matrix, values = inside[0], packed[0][1].values
        if matrix.kind == "expert":  # its parameter holds others that come apart from it
            return [*packed]
        return [(matrix.name, values.t() if matrix.kind == "conv1d" else values)]
    name, tensor = whole
    return [(name, tensor.to(dtype) if dtype and tensor.is_floating_point() else tensor)]


def _finish_plain(
    model: nn.Module, folder: Path, facts: About, supports: Mapping[str, Support], overwrite: bool
) -> Path:
    texts = _texts(facts)
    with new_folder(folder, overwrite=overwrite) as temporary:
        sites = write_plain(model, temporary, facts, supports)
        _write_manifest(temporary, facts, texts, {}, sites)
    return folder


def _texts(facts: About) -> dict[str, Any]:
    """The JSON-able fields, checked before anything is written."""
    return {
        name: json_value(getattr(facts, name), name) for name in ("system", "report", "extra")
    }


def _write_manifest(
    folder: Path, facts: About, texts: dict[str, Any], files: dict[str, FileRecord],
    sites: dict[str, SiteRecord],
) -> None:
    present = sorted(p.relative_to(folder).as_posix() for p in folder.rglob("*") if p.is_file())
    manifest = Manifest(
        model_class=facts.model_class,
        config="config.json" if facts.config is not None else None,
        layout=facts.layout, sites=sites, tied=dict(facts.tied),
        files={name: files.get(name) or _record(folder / name) for name in present},
        library=__version__, **texts,
    )
    (folder / NAME).write_bytes(to_bytes(manifest))


def _record(path: Path) -> FileRecord:
    record = file_record(path)
    if path.suffix != ".safetensors":
        return record
    return dataclasses.replace(record, header=sha256(contents(path).head).hexdigest())


def check_layout(layout: str) -> str:
    """The layout's name; ConfigError where there is none."""
    if layout not in CHOICES and layout not in LAYOUTS:
        raise ConfigError(unknown("layout", layout, [*LAYOUTS, *CHOICES]))
    return layout


def check_dtype(dtype: torch.dtype | None) -> torch.dtype | None:
    """The dtype; ConfigError where it is not a floating-point one."""
    if dtype is not None and not dtype.is_floating_point:
        raise ConfigError(f"Weights are saved in a floating-point dtype, not {dtype}.")
    return dtype
