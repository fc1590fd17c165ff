"""pack: a saved folder of any kind written again in another layout."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import torch
from torch import Tensor, nn

from gossamer.core import StoreError
from gossamer.layout import Packed
from gossamer.store.about import About, about
from gossamer.store.atomic import check_target
from gossamer.store.codecs import compressed_tensors
from gossamer.store.fill import fill
from gossamer.store.manifest import NAME, Manifest, read_manifest
from gossamer.store.matrices import Matrix, matrix_in, parameter_name, tied_names
from gossamer.store.read import check_companions, existing, load, load_plain, stored_items
from gossamer.store.skeleton import skeleton
from gossamer.store.write import (
    check_dtype,
    check_layout,
    param_items,
    save_described,
    write_stream,
)

_WEIGHTS = (
    ".safetensors", ".bin", ".pt", ".pth", ".gguf", ".h5", ".msgpack", ".onnx", ".index.json",
)
_WRITTEN = (NAME, "config.json", "generation_config.json")


@dataclass(frozen=True, eq=False)
class Opened:
    """A model read from a folder, and what the folder says of it.

    Args:
        model: in eval mode; packed where the folder is packed.
        source: gossamer, compressed-tensors or transformers.
        manifest: of a folder that gossamer wrote.
        patterns: site name to the pattern that the folder claims.
    """

    model: nn.Module
    source: str
    manifest: Manifest | None = None
    patterns: dict[str, str] = field(default_factory=dict)


def pack(
    folder_in: str | os.PathLike[str],
    folder_out: str | os.PathLike[str],
    *,
    layout: str = "auto",
    dtype: torch.dtype | None = None,
    overwrite: bool = False,
) -> Path:
    """Write a model folder again in another layout, from dense to packed or back.

    Args:
        folder_in: a folder of gossamer, a plain Hugging Face folder with zeros in its weights,
            or one of the compressed-tensors bitmask formats.
        folder_out: a new or empty folder, or with ``overwrite`` an earlier saved model.
        layout: as in `save`; "dense" gives a folder that plain transformers loads.
        dtype: dtype of all floating-point tensors; None keeps each its own.

    Raises:
        StoreError: a folder that cannot be read or written.
    """
    check_layout(layout)
    check_dtype(dtype)
    source, target = Path(folder_in), Path(folder_out)
    check_target(Path(os.path.realpath(target)), overwrite)  # before a long load
    if (existing(source) / NAME).is_file() and read_manifest(source).config is None:
        return _pack_stream(source, target, layout, dtype, overwrite)
    opened = open_folder(source)
    facts = _facts(opened, source)
    facts = dataclasses.replace(facts, layout=layout, dtype=dtype)
    return save_described(opened.model, target, facts, {}, overwrite=overwrite)


def open_folder(folder: Path, *, verify: bool = True) -> Opened:
    """Load a folder of any kind that gossamer reads.

    Raises:
        StoreError: it is none of them, or damaged.
    """
    existing(folder)
    if (folder / NAME).is_file():
        manifest = read_manifest(folder)
        patterns = {name: s.pattern for name, s in manifest.sites.items() if s.pattern}
        return Opened(load(folder, verify=verify), "gossamer", manifest, patterns)
    name = compressed_tensors.detect(folder)
    if name is not None:
        model, packed = _load_foreign(folder)
        patterns = dict.fromkeys(packed, "2:4") if name == "sparse-24-bitmask" else {}
        return Opened(model, "compressed-tensors", None, patterns)
    return Opened(load_plain(folder), "transformers")


def read_foreign(folder: str | os.PathLike[str]) -> Iterator[tuple[str, Tensor | Packed]]:
    """Tensors of a folder in a format of another library, matrices packed, one at a time.

    Reads the compressed-tensors formats ``sparse-bitmask`` and ``sparse-24-bitmask``.

    Raises:
        StoreError: another format, or a damaged file.
        UnsupportedError: quantised or float8 values.
    """
    path = existing(Path(folder))
    if compressed_tensors.detect(path) is None:
        raise StoreError(
            f"{path}/config.json names no sparsity format that gossamer reads; it reads "
            f"{' and '.join(compressed_tensors.FORMATS)}."
        )
    return compressed_tensors.read(path)


def _pack_stream(
    source: Path, target: Path, layout: str, dtype: torch.dtype | None, overwrite: bool
) -> Path:
    """`pack` for a module that is not from transformers: tensor by tensor, without its class."""
    manifest = read_manifest(source)
    check_companions(source, manifest, True)
    sites: dict[str, list[str]] = {}
    for name in manifest.sites:
        sites.setdefault(parameter_name(name), []).append(name)

    def repacked() -> Iterator[tuple[str, Tensor | Packed]]:
        for name, item in stored_items(source, manifest):
            if isinstance(item, Packed):
                matrix = Matrix(name, manifest.sites[name].kind, parameter_name(name), item)
                yield from param_items([matrix], None, {}, layout, dtype)
            else:
                inside = [matrix_in(s, manifest.sites[s].kind, item) for s in sites.get(name, [])]
                yield from param_items(inside, (name, item), {}, layout, dtype)

    facts = About(
        manifest.model_class, layout=layout, tied=manifest.tied, system=manifest.system,
        report=manifest.report, extra=manifest.extra,
        kinds={name: site.kind for name, site in manifest.sites.items()},
        patterns={name: s.pattern for name, s in manifest.sites.items() if s.pattern},
        copies=tuple(source / n for n in manifest.files if not n.endswith(_WEIGHTS)),
    )
    return write_stream(target, repacked(), facts, overwrite=overwrite)


def _load_foreign(folder: Path) -> tuple[nn.Module, set[str]]:
    model = skeleton(folder)
    packed: set[str] = set()

    def noted() -> Iterator[tuple[str, Tensor | Packed]]:
        for name, item in compressed_tensors.read(folder):
            if isinstance(item, Packed):
                packed.add(name)
            yield name, item

    tied = tied_names(model)
    fill(model, noted(), tied, folder)
    return model, packed


def _facts(opened: Opened, folder: Path) -> About:
    manifest = opened.manifest
    facts = about(opened.model)
    copies = tuple(
        path for path in sorted(folder.iterdir())
        if path.is_file() and path.name not in _WRITTEN and not path.name.endswith(_WEIGHTS)
    )
    known = {name: p for name, p in opened.patterns.items() if name in facts.kinds}
    return dataclasses.replace(
        facts, copies=copies, patterns=known,
        system=manifest.system if manifest else None,
        report=manifest.report if manifest else None,
        extra=manifest.extra if manifest else {},
    )
