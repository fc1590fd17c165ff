"""Safetensors folders read with plain file reads: no map of a file counts as memory in use."""

from __future__ import annotations

import json
import math
import struct
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any

import torch
from torch import Tensor

from gossamer.core.errors import StoreError, UnsupportedError

_DTYPES: Mapping[str, torch.dtype] = MappingProxyType({
    "F64": torch.float64, "F32": torch.float32, "F16": torch.float16, "BF16": torch.bfloat16,
    "I64": torch.int64, "I32": torch.int32, "I16": torch.int16, "I8": torch.int8,
    "U64": torch.uint64, "U32": torch.uint32, "U16": torch.uint16, "U8": torch.uint8,
    "BOOL": torch.bool, "F8_E4M3": torch.float8_e4m3fn, "F8_E5M2": torch.float8_e5m2,
})
_INDEX = "model.safetensors.index.json"
_SINGLE = "model.safetensors"
_MAX_HEADER = 100 << 20  # the format's own bound


@dataclass(frozen=True)
class Stored:
    """Where one tensor lies: file, first byte, shape and dtype."""

    file: Path
    offset: int
    shape: tuple[int, ...]
    dtype: torch.dtype

    @property
    def nbytes(self) -> int:
        """Bytes of the tensor."""
        return math.prod(self.shape) * self.dtype.itemsize

    def read(self) -> Tensor:
        """The tensor, read into memory of its own."""
        tensor = torch.empty(self.shape, dtype=self.dtype)
        self.read_into(tensor)
        return tensor

    def read_into(self, target: Tensor) -> None:
        """Read into a contiguous tensor of the same dtype and number of elements."""
        view = target.view(-1).view(torch.uint8).numpy().data
        try:
            with self.file.open("rb", buffering=0) as file:
                file.seek(self.offset)
                done = 0
                while done < len(view):  # one read gives at most 2 GiB
                    count = file.readinto(view[done:])
                    if not count:
                        raise _torn(self.file)
                    done += count
        except OSError as error:
            raise StoreError(f"{self.file} cannot be read: {error.strerror or error}.") from error


def open_shards(folder: Path) -> dict[str, Stored]:
    """Every tensor of a folder by its stored name, from the headers alone.

    Reads ``model.safetensors``, or the shards that ``model.safetensors.index.json`` lists.

    Raises:
        StoreError: the folder, the index or a shard is missing, torn or damaged.
    """
    if not folder.is_dir():
        raise StoreError(f"There is no folder {folder}.")
    if (folder / _INDEX).is_file():
        return _indexed(folder)
    if (folder / _SINGLE).is_file():
        return read_header(folder / _SINGLE)
    others = sorted(p.name for p in folder.glob("*.safetensors"))
    if others:
        raise StoreError(
            f"{folder / _INDEX} is missing, which says what {others[0]} and its like hold."
        )
    raise StoreError(
        f"{folder} has no {_SINGLE} and no {_INDEX}; save the model with save_pretrained."
    )


def _indexed(folder: Path) -> dict[str, Stored]:
    file = folder / _INDEX
    try:
        weight_map: dict[str, str] = json.loads(file.read_text(encoding="utf-8"))["weight_map"]
        shards = sorted(set(weight_map.values()))
        if not all(isinstance(shard, str) for shard in shards):
            raise TypeError("a shard's name must be a string")
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise StoreError(f"{file} is damaged: it holds no weight_map.") from error
    headers = {shard: read_header(folder / shard) for shard in shards}
    for name, shard in weight_map.items():
        if name not in headers[shard]:
            raise StoreError(f"{folder / shard} does not hold {name}, though {file.name} says so.")
    return {name: headers[shard][name] for name, shard in weight_map.items()}


def read_header(file: Path) -> dict[str, Stored]:
    """Every tensor of one safetensors file, checked against the file's length.

    Raises:
        StoreError: the file is missing, torn or damaged.
        UnsupportedError: a dtype that torch does not have.
    """
    try:
        size = file.stat().st_size
        with file.open("rb") as stream:
            start = stream.read(8)
            length = struct.unpack("<Q", start)[0] if len(start) == 8 else size
            if 8 + length > size:
                raise _torn(file)
            if length > _MAX_HEADER:
                raise StoreError(f"{file} is damaged: its header claims {length} bytes.")
            header = json.loads(stream.read(length))
        entries = {
            name: _stored(file, 8 + length, name, entry)
            for name, entry in header.items() if name != "__metadata__"
        }
    except FileNotFoundError as error:
        raise StoreError(f"{file} is missing.") from error
    except OSError as error:
        raise StoreError(f"{file} cannot be read: {error.strerror or error}.") from error
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise StoreError(f"{file} is damaged: its header is no safetensors header.") from error
    if any(entry.offset + entry.nbytes > size for entry in entries.values()):
        raise _torn(file)
    return entries


def _stored(file: Path, start: int, name: str, entry: dict[str, Any]) -> Stored:
    if entry["dtype"] not in _DTYPES:
        raise UnsupportedError(f"{file}: {name} has dtype {entry['dtype']}, which torch has not.")
    first, last = entry["data_offsets"]
    stored = Stored(file, start + first, tuple(entry["shape"]), _DTYPES[entry["dtype"]])
    if first < 0 or last - first != stored.nbytes:
        raise ValueError(name)
    return stored


def _torn(file: Path) -> StoreError:
    return StoreError(f"{file} ends early: it is torn or still being written; fetch it again.")
