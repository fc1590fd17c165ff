"""Tensors and packed matrices streamed into as many safetensors files as they need."""

from __future__ import annotations

import dataclasses
import json
import tempfile
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from torch import Tensor

from gossamer.core import ConfigError
from gossamer.layout import Packed, check_packed
from gossamer.store.digest import FileRecord
from gossamer.store.manifest import SiteRecord
from gossamer.store.matrices import as_matrix, expert_index, kept, parameter_name
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
        self._closed: list[FileRecord] = []
        self._place: dict[str, int] = {}  # tensor -> number of its file
        self._sites: dict[str, tuple[int, SiteRecord]] = {}
        self._total = 0

    def write(self, items: Iterable[tuple[str, Tensor | Packed]]) -> None:
        """Write all items, each name once; all parts of one matrix go into the same file."""
        stream = iter(items)
        item = next(stream, None)
        while item is not None:
            with tempfile.TemporaryFile(dir=self._folder) as scratch:
                writer = FileWriter(scratch)
                packed = False
                while item is not None and self._fits(writer, item[1]):
                    self._add(writer, *item)
                    packed |= isinstance(item[1], Packed)
                    item = None  # gives its memory back before the next one is made
                    item = next(stream, None)
                self._finish_file(writer, packed)

    def _fits(self, writer: FileWriter, item: Tensor | Packed) -> bool:
        return writer.size == 0 or writer.size + item.nbytes <= self._limit

    def _add(self, writer: FileWriter, name: str, item: Tensor | Packed) -> None:
        if isinstance(item, Packed):
            check_packed(item)
            tensors = {f"{name}.{part}": tensor for part, tensor in item.parts.items()}
        else:
            tensors = {name: item}
        number = len(self._closed)
        for key, tensor in tensors.items():
            if key in self._place:
                raise ConfigError(f"The tensor {key} came twice; every name is saved once.")
            writer.add(key, tensor)
            self._place[key] = number
        for site, record in self._records(name, item):
            self._sites[site] = (number, record)

    def _finish_file(self, writer: FileWriter, packed: bool) -> None:
        # Older transformers refuse a file whose format they do not know, instead of starting
        # from random weights.
        metadata = {"format": "gossamer" if packed else "pt"}
        path = self._folder / f"part-{len(self._closed)}"
        self._closed.append(writer.finish(path, metadata))
        self._total += writer.size

    def _records(self, name: str, item: Tensor | Packed) -> list[tuple[str, SiteRecord]]:
        if isinstance(item, Packed):
            kind = self._kinds.get(name, "linear" if expert_index(name) is None else "expert")
            record = SiteRecord(
                kind, item.layout, item.shape, _dtype(item), kept(item), item.nbytes,
                self._patterns.get(name), parts=tuple(item.parts),
            )
            return [(name, record)]
        return [
            (site, dense_record(self._kinds[site], item, site, self._patterns.get(site)))
            for site in self._inside.get(name, [])
        ]

    def finish(self) -> tuple[dict[str, FileRecord], dict[str, SiteRecord]]:
        """Name the files and write the index where there are several; records of all."""
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
    rows, cols = as_matrix(kind, weight).shape
    size = weight.numel() * weight.element_size()
    return SiteRecord(kind, "dense", (rows, cols), _dtype(weight), int(weight.count_nonzero()),
                      size, pattern)


def _dtype(weight: Tensor | Packed) -> str:
    return str(weight.dtype).removeprefix("torch.")
