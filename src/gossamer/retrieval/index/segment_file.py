"""Files of arrays that are never changed, and that never read as good when torn or flipped.

A file is 64 bytes (the name of the format, its version, the length of the header, a checksum), a
header in JSON that lists the arrays, the arrays at multiples of 64 bytes, and 64 bytes at the end
that repeat the checksum and give the size of the whole. Each array has a CRC-32 of its own, which
covers the zeros behind it as well.
"""

from __future__ import annotations

import json
import mmap
import os
import struct
import zlib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gossamer.core import StoreError
from gossamer.core.atomic import explained, replacing

MAGIC = b"gossamer"
VERSION = 1
_ALIGN = 64
_FRONT = struct.Struct("<8sIII")
_BACK = struct.Struct("<QI8s")
_KINDS = {"u1", "u2", "u4", "u8", "i8", "f2", "f4"}
Buffer = bytes | mmap.mmap


def encode(arrays: Mapping[str, NDArray[Any]]) -> Iterator[bytes | memoryview]:
    """The pieces of a file that holds these arrays, in order."""
    kept = {name: np.ascontiguousarray(array) for name, array in arrays.items()}
    sums = {name: _padded_sum(array) for name, array in kept.items()}
    header = _header(kept, sums)
    front = _FRONT.pack(MAGIC, VERSION, len(header), 0)[:-4]
    check = zlib.crc32(header, zlib.crc32(front))
    yield _fill(front + struct.pack("<I", check)) + header
    size = _ALIGN + len(header)
    for array in kept.values():
        if array.nbytes:
            yield memoryview(array.reshape(-1).view(np.uint8).data)
            yield bytes(-array.nbytes % _ALIGN)
        size += _aligned(array.nbytes)
    yield _fill(_BACK.pack(size + _ALIGN, check, MAGIC))


def write(path: Path, arrays: Mapping[str, NDArray[Any]]) -> int:
    """Write a file atomically and durably; returns its bytes."""
    with replacing(path) as temporary, open(temporary, "wb") as file:
        for piece in encode(arrays):
            file.write(piece)
        file.flush()
        return file.tell()


def read(path: Path, *, mapped: bool = True, verify: bool = True) -> dict[str, NDArray[Any]]:
    """Arrays of a file, as views of a memory map or of memory.

    The frame, the header and the sizes are always checked, the checksum of every array where
    ``verify``.

    Raises:
        FileNotFoundError: there is no such file.
        StoreError: the file is damaged, foreign, or of a newer version.
    """
    with explained(path), open(path, "rb") as file:
        if os.fstat(file.fileno()).st_size == 0:
            raise StoreError(f"{path} is empty: it was torn; restore it or rebuild the index.")
        buffer: Buffer = (
            mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) if mapped else file.read())
    return decode(buffer, str(path), verify=verify)


def decode(buffer: Buffer, name: str, *, verify: bool = True) -> dict[str, NDArray[Any]]:
    """Arrays of the bytes of a file; ``name`` is for messages."""
    arrays: dict[str, NDArray[Any]] = {}
    for entry in table(buffer, name):
        start, kind = int(entry["offset"]), np.dtype("<" + entry["dtype"])
        shape = tuple(int(size) for size in entry["shape"])
        count = int(np.prod(shape, dtype=np.int64))
        if count == 0:
            arrays[entry["name"]] = np.empty(shape, kind)
            continue
        if verify and zlib.crc32(_span(buffer, entry)) != entry["crc32"]:
            raise _damaged(name, f"the checksum of {entry['name']} is wrong")
        arrays[entry["name"]] = np.frombuffer(buffer, kind, count, start).reshape(shape)
    return arrays


def table(buffer: Buffer, name: str) -> list[dict[str, Any]]:
    """The list of arrays of a file, after the checks of its frame."""
    if len(buffer) < 2 * _ALIGN:
        raise _damaged(name, f"it has {len(buffer)} bytes only")
    magic, version, length, check = _FRONT.unpack(buffer[:_FRONT.size])
    if magic != MAGIC:
        raise StoreError(f"{name} is not a segment of an index.")
    if version > VERSION:
        raise StoreError(
            f"{name} is of version {version} and this gossamer reads up to {VERSION}: install a "
            "newer gossamer."
        )
    header = bytes(buffer[_ALIGN:_ALIGN + length])
    size, again, magic = _BACK.unpack(buffer[-_ALIGN:][:_BACK.size])
    if magic != MAGIC or size != len(buffer) or again != check:
        raise _damaged(name, "its end is missing")
    rest = bytes(buffer[_FRONT.size:_ALIGN]) + bytes(buffer[-_ALIGN:][_BACK.size:])
    front = bytes(buffer[:_FRONT.size - 4])
    if zlib.crc32(header, zlib.crc32(front)) != check or any(rest):
        raise _damaged(name, "the checksum of its header is wrong")
    entries: list[dict[str, Any]] = json.loads(header)["arrays"]
    at = _ALIGN + length
    for entry in entries:
        bytes_ = int(np.prod(entry["shape"], dtype=np.int64)) * int(entry["dtype"][1:])
        if entry["dtype"] not in _KINDS or entry["offset"] != at:
            raise _damaged(name, "its header contradicts itself")
        at += _aligned(bytes_)
    if at + _ALIGN != len(buffer):
        raise _damaged(name, "its header does not fit its size")
    return entries


def readable(buffer: Buffer, name: str) -> tuple[dict[str, NDArray[Any]], list[str]]:
    """Arrays whose checksum is right, and the names of the others."""
    damaged = [entry["name"] for entry in table(buffer, name)
               if zlib.crc32(_span(buffer, entry)) != entry["crc32"]]
    arrays = decode(buffer, name, verify=False)
    return {key: value for key, value in arrays.items() if key not in damaged}, damaged


def damage(path: Path) -> list[str]:
    """What is wrong with a file, array by array; empty where it is sound."""
    try:
        with open(path, "rb") as file:
            buffer = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
        entries = table(buffer, str(path))
    except (StoreError, OSError, ValueError) as error:  # an empty file cannot be mapped
        return [str(error)]
    return [str(_damaged(str(path), f"the checksum of {entry['name']} is wrong"))
            for entry in entries if zlib.crc32(_span(buffer, entry)) != entry["crc32"]]


def _header(arrays: Mapping[str, NDArray[Any]], sums: Mapping[str, int]) -> bytes:
    # Offsets are part of the header whose length they depend on: twelve digits are reserved.
    room = _aligned(len(json.dumps({"arrays": _entries(arrays, sums, 10**12)})))
    text = json.dumps({"arrays": _entries(arrays, sums, _ALIGN + room)})
    return text.ljust(room).encode()


def _entries(
    arrays: Mapping[str, NDArray[Any]], sums: Mapping[str, int], first: int,
) -> list[dict[str, Any]]:
    entries, at = [], first
    for name, array in arrays.items():
        entries.append({"name": name, "dtype": array.dtype.str[1:], "shape": list(array.shape),
                        "offset": at, "crc32": sums[name]})
        at += _aligned(array.nbytes)
    return entries


def _span(buffer: Buffer, entry: Mapping[str, Any]) -> memoryview:
    count = int(np.prod(entry["shape"], dtype=np.int64)) * int(entry["dtype"][1:])
    return memoryview(buffer)[entry["offset"]:entry["offset"] + _aligned(count)]


def _padded_sum(array: NDArray[Any]) -> int:
    if array.nbytes == 0:
        return 0
    data = array.reshape(-1).view(np.uint8).data
    return zlib.crc32(bytes(-array.nbytes % _ALIGN), zlib.crc32(data))


def _aligned(count: int) -> int:
    return count + -count % _ALIGN


def _fill(data: bytes) -> bytes:
    return data.ljust(_ALIGN, b"\0")


def _damaged(name: str, why: str) -> StoreError:
    return StoreError(f"{name} is damaged: {why}; restore it from a copy or recover the index.")
