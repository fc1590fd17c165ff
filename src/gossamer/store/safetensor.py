"""Safetensors files written tensor by tensor and read back against their checksum.

The format is eight bytes of header length, a JSON header, then the tensors without holes. We
write it ourselves to keep one tensor in memory at a time, and read it with ordinary reads so
that the bytes that are checked are the bytes that are used.
"""

from __future__ import annotations

import hashlib
import json
import math
import struct
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import torch
from torch import Tensor

from gossamer.core import StoreError, UnsupportedError
from gossamer.store.digest import CHUNK, FileRecord, check_size, damaged

NAMES: Mapping[torch.dtype, str] = {
    torch.float64: "F64", torch.float32: "F32", torch.bfloat16: "BF16", torch.float16: "F16",
    torch.float8_e4m3fn: "F8_E4M3", torch.float8_e5m2: "F8_E5M2", torch.complex64: "C64",
    torch.int64: "I64", torch.int32: "I32", torch.int16: "I16", torch.int8: "I8",
    torch.uint64: "U64", torch.uint32: "U32", torch.uint16: "U16", torch.uint8: "U8",
    torch.bool: "BOOL",
}
_DTYPES = {name: dtype for dtype, name in NAMES.items()}
_LENGTH = struct.Struct("<Q")


def raw_bytes(tensor: Tensor) -> memoryview:
    """The tensor's bytes in row-major order, without a copy where it is contiguous on the CPU."""
    flat = tensor.detach().cpu().contiguous().reshape(-1)
    return flat.view(torch.uint8).numpy().data if flat.numel() else memoryview(b"")


class FileWriter:
    """One safetensors file in the making; tensors go to a scratch file at once.

    The header needs every shape, so the final file is put together by `finish`, widest dtype
    first, which keeps every tensor aligned as other readers expect.
    """

    def __init__(self, scratch: BinaryIO) -> None:
        self._scratch = scratch
        self._places: list[tuple[str, Tensor, int]] = []  # name, meta tensor, start
        self.size = 0

    def add(self, name: str, tensor: Tensor) -> None:
        """Append one tensor."""
        if tensor.dtype not in NAMES:
            raise UnsupportedError(f"{name} has dtype {tensor.dtype}, which cannot be saved.")
        if tensor.device.type == "meta":
            raise UnsupportedError(f"{name} lies on the meta device and has no values to save.")
        raw = raw_bytes(tensor)
        self._scratch.write(raw)
        self._places.append((name, torch.empty_like(tensor, device="meta"), self.size))
        self.size += len(raw)

    def finish(self, path: Path, metadata: dict[str, str]) -> FileRecord:
        """Write the file and give its record."""
        order = sorted(self._places, key=lambda place: (-place[1].element_size(), place[0]))
        head = _header(order, metadata)
        digest = hashlib.sha256(head)
        with path.open("wb") as out:
            out.write(head)
            for _, tensor, start in order:
                self._scratch.seek(start)
                left = tensor.numel() * tensor.element_size()
                while left:
                    chunk = self._scratch.read(min(left, CHUNK))
                    out.write(chunk)
                    digest.update(chunk)
                    left -= len(chunk)
        header = hashlib.sha256(head).hexdigest()
        return FileRecord(len(head) + self.size, digest.hexdigest(), header)


def _header(order: list[tuple[str, Tensor, int]], metadata: dict[str, str]) -> bytes:
    entries: dict[str, Any] = {"__metadata__": metadata}
    offset = 0
    for name, tensor, _ in order:
        size = tensor.numel() * tensor.element_size()
        entries[name] = {
            "dtype": NAMES[tensor.dtype], "shape": list(tensor.shape),
            "data_offsets": [offset, offset + size],
        }
        offset += size
    text = json.dumps(entries, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    return _LENGTH.pack(len(text)) + text


@dataclass(frozen=True)
class Entry:
    """Where one tensor lies in a file."""

    name: str
    dtype: torch.dtype
    shape: tuple[int, ...]
    start: int
    size: int


@dataclass(frozen=True)
class Contents:
    """A safetensors file as its header tells it: the raw head, and the tensors in file order."""

    path: Path
    head: bytes
    entries: tuple[Entry, ...]


def contents(path: Path) -> Contents:
    """Read and check the header of a safetensors file.

    Raises:
        StoreError: missing, cut short, or not a safetensors file.
    """
    try:
        size = path.stat().st_size
        with path.open("rb") as stream:
            start = stream.read(8)
            length = _LENGTH.unpack(start)[0] if len(start) == 8 else size
            if length > size - 8:
                raise StoreError(f"{path} is not a safetensors file or was cut short.")
            head = start + stream.read(length)
    except OSError as error:
        raise StoreError(f"Cannot read {path}: {error.strerror}.") from error
    try:
        entries = _parse(head)
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise StoreError(f"{path} has a damaged safetensors header ({error}).") from error
    announced = sum(entry.size for entry in entries)
    if announced != size - len(head):
        raise StoreError(
            f"{path} was cut short: its header announces {announced} bytes of tensors, "
            f"{size - len(head)} are there."
        )
    return Contents(path, head, entries)


def _parse(head: bytes) -> tuple[Entry, ...]:
    data: dict[str, Any] = json.loads(head[8:])
    data.pop("__metadata__", None)
    listed = sorted((tuple(entry["data_offsets"]), name) for name, entry in data.items())
    entries = []
    offset = 0
    for (begin, end), name in listed:
        dtype, shape = _DTYPES[data[name]["dtype"]], tuple(data[name]["shape"])
        if not all(type(side) is int and 0 <= side < 1 << 63 for side in (begin, end, *shape)):
            raise ValueError(f"{name} has the shape {shape}")
        if begin != offset or end - begin != math.prod(shape) * dtype.itemsize:
            raise ValueError(f"{name} has the offsets {begin} to {end}")
        entries.append(Entry(name, dtype, shape, len(head) + begin, end - begin))
        offset = end
    return tuple(entries)


def read_tensor(stream: BinaryIO, path: Path, entry: Entry) -> Tensor:
    """One tensor in new memory, by ordinary reads."""
    buffer = torch.empty(entry.size, dtype=torch.uint8)
    view = buffer.numpy().data
    stream.seek(entry.start)
    done = 0
    while done < entry.size:  # one read gives at most 2 GiB
        count = stream.readinto(view[done:])  # type: ignore[attr-defined]
        if not count:
            raise StoreError(f"{path} was cut short while it was read.")
        done += count
    if entry.dtype is torch.bool and bool((buffer > 1).any()):
        raise StoreError(f"{path} holds {entry.name} with bytes that are no truth values.")
    return buffer.view(entry.dtype).view(entry.shape)


def read_file(path: Path, record: FileRecord | None, *, verify: bool = True) -> dict[str, Tensor]:
    """Every tensor of a safetensors file, in new memory.

    Args:
        path: the file.
        record: what it must be; None for a file that nobody recorded.
        verify: compare the whole content with ``record``; otherwise size and header alone.

    Raises:
        StoreError: missing, cut short, damaged or not a safetensors file.
    """
    if record is not None:
        check_size(path, record)
    found = contents(path)
    digest = hashlib.sha256(found.head)
    if record is not None and record.header not in (None, digest.hexdigest()):
        raise damaged(path)
    tensors = {}
    try:
        with path.open("rb") as stream:
            for entry in found.entries:
                tensor = read_tensor(stream, path, entry)
                if verify and record is not None:
                    digest.update(raw_bytes(tensor))
                tensors[entry.name] = tensor
    except OSError as error:
        raise StoreError(f"Cannot read {path}: {error.strerror}.") from error
    if verify and record is not None and digest.hexdigest() != record.sha256:
        raise damaged(path)
    return tensors
