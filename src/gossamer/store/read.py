"""load: a saved folder back into a model, packed matrices staying packed."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

from torch import Tensor, nn

from gossamer.core import StoreError, SupportError
from gossamer.layout import LAYOUTS, Packed, check_packed
from gossamer.models.meta import model_class, read_config
from gossamer.store.atomic import interrupted
from gossamer.store.digest import check_file, check_size
from gossamer.store.fill import fill
from gossamer.store.manifest import NAME, Manifest, read_manifest
from gossamer.store.safetensor import contents, read_file
from gossamer.store.skeleton import quiet, skeleton


def load(
    folder: str | os.PathLike[str], *, into: nn.Module | None = None, verify: bool = True
) -> nn.Module:
    """The model of a saved folder, in eval mode on the CPU.

    Packed Linear layers become packed layers; no dense copy of them is ever made. Stacked
    experts and Conv1D weights, which have no packed layer, are unpacked into their parameter.

    Args:
        folder: written by `save`, `pack` or `write_stream`.
        into: the module to fill (its parameters may lie on the meta device); needed for a model
            that is not from transformers. It is changed in place and returned.
        verify: compare every file with its SHA-256 (once, while it is read); False checks
            sizes and headers alone.

    Raises:
        StoreError: the folder is missing, incomplete, damaged, of a newer format, or belongs to
            another model.
        NeedsError: a Hugging Face model without transformers installed.

    >>> import tempfile
    >>> from gossamer.store import save
    >>> target = Path(tempfile.mkdtemp()) / "model"
    >>> _ = save(nn.Sequential(nn.Linear(64, 8)), target, layout="bitmask")
    >>> type(load(target, into=nn.Sequential(nn.Linear(64, 8)))[0]).__name__
    'PackedLinear'
    """
    path = existing(Path(folder))
    manifest = read_manifest(path)
    check_companions(path, manifest, verify)
    if into is None and manifest.config is None:
        raise StoreError(
            f"{path} holds a {manifest.model_class} that is not from transformers; build the "
            "module and pass it as into=."
        )
    if into is None and manifest.layout == "dense":
        for name, record in manifest.files.items():
            check = check_file if verify else check_size
            check(path / name, record)
        return load_plain(path, manifest.model_class)
    model = skeleton(path, manifest.model_class) if into is None else into
    fill(model, stored_items(path, manifest, verify=verify), manifest.tied, path)
    return model.eval()


def load_plain(folder: Path, name: str | None = None) -> nn.Module:
    """The model of a plain Hugging Face folder, through transformers.

    Raises:
        StoreError: a file is damaged, or a weight that the model needs is not there.
    """
    cls = model_class(read_config(folder), name)
    for path in folder.glob("*.safetensors"):
        contents(path)  # transformers has no sentence for a damaged header
    try:
        with quiet():
            model, found = cls.from_pretrained(
                folder, local_files_only=True, output_loading_info=True)
    except (OSError, ValueError, RuntimeError, ImportError) as error:
        raise StoreError(f"transformers cannot load {folder}: {error}") from error
    if lost := sorted(map(str, (*found["missing_keys"], *found["mismatched_keys"]))):
        raise StoreError(
            f"{folder} lacks {lost[0]}, which {cls.__name__} needs; transformers would make it up. "
            "The folder belongs to another model, or is incomplete."
        )
    loaded: nn.Module = model
    return loaded.eval()


def existing(folder: Path) -> Path:
    """The folder; StoreError where there is none."""
    if not folder.is_dir():
        raise StoreError(f"There is no folder {folder}.{interrupted(folder)}")
    return folder


def check_companions(folder: Path, manifest: Manifest, verify: bool) -> None:
    """Check every file except the tensors', which are checked while they are read."""
    for name, record in manifest.files.items():
        check = check_file if verify and not name.endswith(".safetensors") else check_size
        check(folder / name, record)


def stored_items(
    folder: Path, manifest: Manifest, *, verify: bool = True
) -> Iterator[tuple[str, Tensor | Packed]]:
    """What `write_stream` was given, in file order; one file is in memory at a time."""
    inside: dict[str, list[str]] = {}
    for name, site in manifest.sites.items():
        if site.parts:
            if site.layout not in LAYOUTS or site.file not in manifest.files:
                raise StoreError(
                    f"{folder / NAME} stores {name} as {site.layout!r} in {site.file}, which this "
                    "version cannot read; install a newer gossamer."
                )
            inside.setdefault(site.file or "", []).append(name)
    for file in sorted(name for name in manifest.files if name.endswith(".safetensors")):
        tensors = read_file(folder / file, manifest.files[file], verify=verify)
        for name in inside.get(file, []):
            yield name, _packed(folder, name, manifest, tensors)
        while tensors:
            name = next(iter(tensors))
            yield name, tensors.pop(name)


def _packed(folder: Path, name: str, manifest: Manifest, tensors: dict[str, Tensor]) -> Packed:
    site = manifest.sites[name]
    try:
        parts = {part: tensors.pop(f"{name}.{part}") for part in site.parts}
        packed = Packed(site.layout, site.shape, parts)
        check_packed(packed)
    except (KeyError, SupportError) as error:
        raise StoreError(f"{folder / (site.file or NAME)}: {name} is damaged: {error}") from error
    return packed
