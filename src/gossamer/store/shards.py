"""Tensors and packed matrices streamed into as many safetensors files as they need."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import Tensor

from gossamer.core import ConfigError
from gossamer.layout import Packed, check_packed, support_of
from gossamer.store.digest import FileRecord
from gossamer.store.manifest import SiteRecord
from gossamer.store.matrices import expert_index, parameter_name
from gossamer.store.safetensor import FileWriter

SHARD_BYTES = 512 << 20
INDEX = "model.safetensors.index.json"


class ShardWriter:
    """Writes items as they come; one tensor is in memory at a time.

    Args:
        folder: where the files go.
        kinds: site name to kind.
        patterns: site name to claimed pattern.
        shard_bytes: a file is closed before it grows past this size.
    """

    def __init__(
        self, folder: Path, kinds: Mapping[str, str], patterns: Mapping[str, str],
        shard_bytes: int = SHARD_BYTES,
    ) -> None:
        self._folder, self._limit = folder, shard_bytes
        self._kinds, self._patterns = kinds, patterns
        self._inside: dict[str, list[str]] = {}  # parameter -> sites in it
        for name in kinds:
            self._inside.setdefault(parameter_name(name), []).append(name)
        self._open: FileWriter | None = None
        self._format = "pt"
        self._closed: list[FileRecord] = []
        self._place: dict[str, int] = {}  # tensor -> number of its file
        self._sites: dict[str, tuple[int, SiteRecord]] = {}
        self._total = 0

    def add(self, name: str, item: Tensor | Packed) -> None:
        """Write one tensor, or all parts of one matrix into the same file."""
        packed = isinstance(item, Packed)
        if isinstance(item, Packed):
            check_packed(item)
            tensors = {f"{name}.{part}": tensor for part, tensor in item.parts.items()}
        else:
            tensors = {name: item}
        repeated = next((key for key in tensors if key in self._place), None)
        if repeated is not None:
            raise ConfigError(f"The tensor {repeated} came twice; every name is saved once.")
        writer = self._writer(sum(t.numel() * t.element_size() for t in tensors.values()))
        number = len(self._closed)
        for key, tensor in tensors.items():
            writer.add(key, tensor)
            self._place[key] = number
        if packed:
            # Older transformers refuse a file whose format they do not know, instead of
            # starting from random weights.
            self._format = "gossamer"
        for site, record in self._records(name, item):
            self._sites[site] = (number, record)

    def _records(self, name: str, item: Tensor | Packed) -> list[tuple[str, SiteRecord]]:
        if isinstance(item, Packed):
            kind = self._kinds.get(name, "linear" if expert_index(name) is None else "expert")
            record = SiteRecord(
                kind, item.layout, item.shape, _dtype(item), support_of(item).nnz, item.nbytes,
                self._patterns.get(name), parts=tuple(item.parts),
            )
            return [(name, record)]
        return [
            (site, dense_record(self._kinds[site], item, site, self._patterns.get(site)))
            for site in self._inside.get(name, [])
        ]

    def _writer(self, size: int) -> FileWriter:
        if self._open is not None and self._open.size + size > self._limit and self._open.size:
            self._close()
        if self._open is None:
            self._open = FileWriter(self._folder)
        return self._open

    def _close(self) -> None:
        if self._open is None:
            return
        path = self._folder / f"part-{len(self._closed)}"
        self._total += self._open.size
        self._closed.append(self._open.close(path, {"format": self._format}))
        self._open, self._format = None, "pt"

    def abandon(self) -> None:
        """Close what is open after an error."""
        if self._open is not None:
            self._open.abandon()

    def finish(self) -> tuple[dict[str, FileRecord], dict[str, SiteRecord]]:
        """Close and name the files; write the index where there are several."""
        self._close()
        count = len(self._closed)
        names = [
            "model.safetensors" if count == 1 else f"model-{i + 1:05}-of-{count:05}.safetensors"
            for i in range(count)
        ]
        for i, name in enumerate(names):
            (self._folder / f"part-{i}").rename(self._folder / name)
        if count > 1:
            index: dict[str, Any] = {
                "metadata": {"total_size": self._total},
                "weight_map": {name: names[i] for name, i in self._place.items()},
            }
            (self._folder / INDEX).write_text(json.dumps(index, indent=1), encoding="utf-8")
        sites = {
            name: dataclasses.replace(record, file=names[i])
            for name, (i, record) in self._sites.items()
        }
        return dict(zip(names, self._closed)), sites


def dense_record(kind: str, param: Tensor, site: str, pattern: str | None) -> SiteRecord:
    """The record of a site whose whole parameter is stored dense."""
    index = expert_index(site)
    weight = param if index is None else param[index]
    rows, cols = (weight.shape[1], weight.shape[0]) if kind == "conv1d" else weight.shape
    size = weight.numel() * weight.element_size()
    return SiteRecord(kind, "dense", (rows, cols), _dtype(weight), int(weight.count_nonzero()),
                      size, pattern)


def _dtype(weight: Tensor | Packed) -> str:
    return str(weight.dtype).removeprefix("torch.")
