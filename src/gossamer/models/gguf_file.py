"""GGUF files: header parsed once, tensors read and dequantised one at a time.

The `gguf` package's own reader makes one memory map view for each of a vocabulary's hundred
thousand strings, which takes seconds; this one reads the header as a stream. Dequantisation is
the package's.
"""

from __future__ import annotations

import importlib.util
import math
import struct
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, TypeAlias

import numpy as np
import torch
from torch import Tensor

from gossamer.core.errors import NeedsError, StoreError, UnsupportedError

Value: TypeAlias = Any  # a scalar, a string or a list of them: whatever the file declares

_SCALARS = {0: "B", 1: "b", 2: "H", 3: "h", 4: "I", 5: "i", 6: "f", 7: "?", 10: "Q", 11: "q",
            12: "d"}
_STRING, _ARRAY = 8, 9


@dataclass(frozen=True)
class _Entry:
    shape: tuple[int, ...]
    kind: int
    offset: int


@dataclass(frozen=True)
class GgufFile:
    """An opened GGUF file.

    Args:
        path: the file.
        metadata: its key-value pairs.
        entries: where each tensor lies.
    """

    path: Path
    metadata: dict[str, Value]
    entries: dict[str, _Entry]

    def shape(self, name: str) -> tuple[int, ...]:
        """Shape of a tensor, slowest dimension first (``[out, in]`` for a weight)."""
        return self.entries[name].shape

    def read(self, name: str, dtype: torch.dtype = torch.float32) -> Tensor:
        """One tensor, dequantised.

        Raises:
            StoreError: the file ends before the tensor does.
            UnsupportedError: a quantisation that the gguf package cannot undo.
        """
        from gguf import GGML_QUANT_SIZES, GGMLQuantizationType, dequantize
        entry = self.entries[name]
        try:
            kind = GGMLQuantizationType(entry.kind)
            block, size = GGML_QUANT_SIZES[kind]
        except (ValueError, KeyError) as error:
            raise UnsupportedError(
                f"{self.path}: {name} has the unknown quantisation type {entry.kind}; "
                "upgrade gguf, or convert the file to F16 or Q8_0."
            ) from error
        width = entry.shape[-1] // block * size
        raw = np.empty((*entry.shape[:-1], width), dtype=np.uint8)
        with self.path.open("rb") as file:
            file.seek(entry.offset)
            if file.readinto(raw.data.cast("B")) != raw.nbytes:
                raise _torn(self.path)
        try:
            dense = dequantize(raw, kind)
        except NotImplementedError as error:
            raise UnsupportedError(
                f"{self.path}: {name} is {kind.name}, which gguf cannot undo; convert the file "
                "to F16 or Q8_0."
            ) from error
        return torch.from_numpy(dense).reshape(entry.shape).to(dtype)


def open_gguf(path: str | Path) -> GgufFile:
    """Parse the header of a GGUF file (version 2 or 3, little-endian).

    Raises:
        StoreError: the file is missing, torn, or no GGUF.
        NeedsError: the gguf package is absent.
    """
    if importlib.util.find_spec("gguf") is None:
        raise NeedsError('GGUF files need the gguf package: pip install "gossamer[lm]".')
    path = Path(path)
    try:
        with path.open("rb") as file:
            return _parse(path, file, path.stat().st_size)
    except OSError as error:
        raise StoreError(f"{path} cannot be read: {error.strerror or error}.") from error


def _parse(path: Path, file: BinaryIO, size: int) -> GgufFile:
    reader = _Reader(path, file, size)
    if reader.take(4) != b"GGUF":
        raise StoreError(f"{path} is no GGUF file: it does not begin with 'GGUF'.")
    version = reader.scalar("I")
    if version not in (2, 3):
        raise StoreError(f"{path} has GGUF version {version}; versions 2 and 3 can be read.")
    tensors, pairs = reader.scalar("Q"), reader.scalar("Q")
    metadata = {}
    for _ in range(pairs):
        key = reader.string()
        metadata[key] = reader.value(reader.scalar("I"))
    entries = {}
    for _ in range(tensors):
        name = reader.string()
        sides = [reader.scalar("Q") for _ in range(reader.scalar("I"))]
        entries[name] = _Entry(tuple(reversed(sides)), reader.scalar("I"), reader.scalar("Q"))
    alignment = int(metadata.get("general.alignment", 32))
    start = math.ceil(file.tell() / alignment) * alignment
    placed = {n: _Entry(e.shape, e.kind, start + e.offset) for n, e in entries.items()}
    return GgufFile(path, metadata, placed)


def _torn(path: Path) -> StoreError:
    return StoreError(f"{path} ends early: it is torn or still being written; fetch it again.")


@dataclass(frozen=True)
class _Reader:
    """Reads the header's values; whatever does not fit in the file means that it is torn."""

    path: Path
    file: BinaryIO
    size: int

    def take(self, count: int) -> bytes:
        if count > self.size:
            raise _torn(self.path)
        data = self.file.read(count)
        if len(data) != count:
            raise _torn(self.path)
        return data

    def scalar(self, code: str) -> Any:
        return struct.unpack(f"<{code}", self.take(struct.calcsize(f"<{code}")))[0]

    def string(self) -> str:
        return self.take(self.scalar("Q")).decode("utf-8", errors="replace")

    def value(self, kind: int) -> Value:
        if kind == _STRING:
            return self.string()
        if kind == _ARRAY:
            inner, count = self.scalar("I"), self.scalar("Q")
            if inner in _SCALARS:
                item = struct.calcsize(f"<{_SCALARS[inner]}")
                return list(struct.unpack(f"<{count}{_SCALARS[inner]}", self.take(count * item)))
            return [self.value(inner) for _ in range(count)]
        if kind not in _SCALARS:
            raise StoreError(f"{self.path} is damaged: it declares a value of type {kind}.")
        return self.scalar(_SCALARS[kind])
