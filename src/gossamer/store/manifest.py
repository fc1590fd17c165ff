"""gossamer.json: what a saved folder holds, with a checksum of every file and of itself."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any

from gossamer.core import ConfigError, GossamerError, StoreError, parse_pattern
from gossamer.store.digest import FileRecord

NAME = "gossamer.json"
FORMAT = 1
# The first release that reads FORMAT; an older library names it when it refuses the folder.
READER = "0.1.0"
_ZEROS = "0" * 64
KINDS = ("linear", "conv1d", "expert", "conv2d")


@dataclass(frozen=True)
class SiteRecord:
    """How one prunable matrix is stored.

    Args:
        kind: linear, conv1d, expert or conv2d.
        layout: name of the layout.
        shape: rows (outputs) and columns (inputs).
        dtype: of the values, such as ``bfloat16``.
        nnz: kept entries.
        bytes: of all parts.
        pattern: the pattern that was claimed when saving, if any.
        file: the safetensors file that holds the parts.
        parts: names of the parts, stored as ``<site>.<part>``; empty where the whole parameter
            is stored dense under its own name.
    """

    kind: str
    layout: str
    shape: tuple[int, int]
    dtype: str
    nnz: int
    bytes: int
    pattern: str | None = None
    file: str | None = None
    parts: tuple[str, ...] = ()


@dataclass(frozen=True)
class Manifest:
    """The content of gossamer.json.

    Args:
        model_class: name of the model's class, in transformers where ``config`` is set.
        config: file name of the Hugging Face configuration, or None for another module.
        layout: the layout that was asked for; ``dense`` marks a plain folder.
        sites: stored matrices by site name.
        tied: parameter names that share the tensor of another name.
        files: every file of the folder but gossamer.json.
        system: the system that made the model and its configuration.
        report: figures of the run that made it.
        library: version of gossamer that wrote the folder.
        extra: unknown keys, kept as they were.
    """

    model_class: str
    config: str | None
    layout: str
    sites: dict[str, SiteRecord]
    tied: dict[str, str]
    files: dict[str, FileRecord]
    system: dict[str, Any] | None = None
    report: dict[str, Any] | None = None
    library: str = ""
    extra: dict[str, Any] = field(default_factory=dict)


def json_value(value: Any, where: str) -> Any:
    """A copy with plain JSON types: infinite and NaN numbers become None, tuples lists.

    Raises:
        ConfigError: a value or key that JSON has no form for.
    """
    if isinstance(value, Mapping):
        for key in value:
            if not isinstance(key, str):
                raise ConfigError(f"{where} has the key {key!r}; JSON needs text keys.")
        return {key: json_value(item, f"{where}.{key}") for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [json_value(item, f"{where}[{i}]") for i, item in enumerate(value)]
    if value is None or isinstance(value, (bool, int, str)):
        return value
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    raise ConfigError(f"{where} is a {type(value).__name__}, which JSON cannot hold.")


def to_bytes(manifest: Manifest) -> bytes:
    """The file's bytes; ``checksum`` is their SHA-256 with 64 zeros in its own place."""
    data: dict[str, Any] = {
        "format": FORMAT, "checksum": _ZEROS, "reader": READER, "library": manifest.library,
        "model": {"class": manifest.model_class, "config": manifest.config},
        "layout": manifest.layout, "system": manifest.system, "report": manifest.report,
        "tied": manifest.tied,
        "sites": {name: asdict(site) for name, site in manifest.sites.items()},
        "files": {name: asdict(record) for name, record in manifest.files.items()},
    }
    data.update({key: item for key, item in manifest.extra.items() if key not in data})
    raw = json.dumps(data, indent=1, ensure_ascii=True).encode()
    return _with_checksum(raw, _ZEROS, hashlib.sha256(raw).hexdigest())


def read_manifest(folder: Path) -> Manifest:
    """Read and check gossamer.json.

    Raises:
        StoreError: it is missing, damaged, or of a newer format.
    """
    path = folder / NAME
    try:
        raw = path.read_bytes()
    except OSError as error:
        raise StoreError(
            f"{folder} is not a folder that gossamer saved: {NAME} cannot be read "
            f"({error.strerror})."
        ) from error
    return from_bytes(raw, path)


def from_bytes(raw: bytes, path: Path) -> Manifest:
    """Parse the file's bytes; see `read_manifest`."""
    data = _parsed(raw)
    if not isinstance(data, dict) or not isinstance(data.get("format"), int):
        raise StoreError(f"{path} is not a gossamer manifest or was cut short; copy it again.")
    if data["format"] > FORMAT:
        raise StoreError(
            f"{path} has format {data['format']}, this version reads up to {FORMAT}; install a "
            f"newer one: pip install 'gossamer>={data.get('reader', 'the newest')}'."
        )
    checksum = data.get("checksum")
    if not isinstance(checksum, str) or len(checksum) != 64 or checksum != hashlib.sha256(
        _with_checksum(raw, checksum, _ZEROS)
    ).hexdigest():
        raise StoreError(f"{path} does not match its own checksum: it was changed or damaged.")
    try:
        return _manifest(data)
    except (KeyError, TypeError, ValueError, AttributeError, GossamerError) as error:
        raise StoreError(f"{path} lacks or misstates a field: {error!r}.") from error


def owned_files(folder: Path) -> set[str] | None:
    """Names of the files that a saved folder lists, or None where gossamer did not write it."""
    path = folder / NAME
    if not path.is_file():
        return None
    try:
        data = _parsed(path.read_bytes())
    except OSError as error:
        raise StoreError(f"Cannot read {path}: {error.strerror}.") from error
    if not isinstance(data, dict) or "format" not in data or "files" not in data:
        return None
    return {NAME, *data["files"]}


def _parsed(raw: bytes) -> Any:
    try:
        return json.loads(raw)
    except (ValueError, RecursionError):
        return None


def _with_checksum(raw: bytes, old: str, new: str) -> bytes:
    return raw.replace(f'"checksum": "{old}"'.encode(), f'"checksum": "{new}"'.encode(), 1)


def _manifest(data: dict[str, Any]) -> Manifest:
    known = {"format", "checksum", "reader", "library", "model", "layout", "system", "report",
             "tied", "sites", "files"}
    for name in data["files"]:
        place = PurePosixPath(name)
        if place.is_absolute() or ".." in place.parts:
            raise ValueError(f"the file name {name!r} leads outside the folder")
    config = data["model"]["config"]
    return Manifest(
        model_class=_text(data["model"]["class"]), config=None if config is None else _text(config),
        layout=_text(data["layout"]),
        tied={alias: _text(name) for alias, name in data["tied"].items()},
        sites={name: _site(item) for name, item in data["sites"].items()},
        files={name: _record(item) for name, item in data["files"].items()},
        system=_facts(data.get("system")), report=_facts(data.get("report")),
        library=_text(data["library"]),
        extra={key: item for key, item in data.items() if key not in known},
    )


def _site(item: dict[str, Any]) -> SiteRecord:
    rows, cols = item["shape"]
    pattern, file = item.get("pattern"), item.get("file")
    parts = tuple(_text(part) for part in _list(item["parts"]))
    kind = _text(item["kind"])
    if kind not in KINDS or (parts and file is None):
        raise ValueError(f"a matrix of kind {kind!r} with parts in {file!r}")
    return SiteRecord(
        kind=kind, layout=_text(item["layout"]), shape=(_whole(rows), _whole(cols)),
        dtype=_text(item["dtype"]), nnz=_whole(item["nnz"]), bytes=_whole(item["bytes"]),
        pattern=None if pattern is None else str(parse_pattern(_text(pattern))),
        file=None if file is None else _text(file), parts=parts,
    )


def _record(item: dict[str, Any]) -> FileRecord:
    header = item.get("header")
    return FileRecord(_whole(item["size"]), _text(item["sha256"]),
                      None if header is None else _text(header))


def _facts(value: Any) -> dict[str, Any] | None:
    if value is not None and not isinstance(value, dict):
        raise TypeError(f"{value!r} is no object")
    return value


def _list(value: Any) -> list[Any]:
    if not isinstance(value, list):
        raise TypeError(f"{value!r} is no list")
    return value


def _text(value: Any) -> str:
    if not isinstance(value, str):
        raise TypeError(f"{value!r} is no text")
    return value


def _whole(value: Any) -> int:
    """A count or size."""
    if type(value) is not int or value < 0:
        raise TypeError(f"{value!r} is no count")
    return value
