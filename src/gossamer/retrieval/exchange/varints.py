"""Protocol buffers' variable-length integers, many at a time."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from gossamer.core import DataError

_LONGEST = 10


def encode(values: NDArray[np.uint64]) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
    """Bytes of the integers one after the other, and how many each takes."""
    lengths = lengths_of(values)
    ends = np.cumsum(lengths)
    out = np.empty(int(ends[-1]) if len(ends) else 0, np.uint8)
    starts = ends - lengths
    for i in range(int(lengths.max()) if len(lengths) else 0):
        at = np.flatnonzero(lengths > i)
        low = (values[at] >> np.uint64(7 * i)).astype(np.uint8) & 0x7F
        out[starts[at] + i] = low | ((lengths[at] > i + 1).astype(np.uint8) << 7)
    return out, lengths


def lengths_of(values: NDArray[np.uint64]) -> NDArray[np.int64]:
    """Bytes that each integer takes."""
    lengths = np.ones(len(values), np.int64)
    for i in range(1, _LONGEST):
        lengths += values >= np.uint64(1 << (7 * i))
    return lengths


def decode(data: NDArray[np.uint8]) -> tuple[NDArray[np.uint64], NDArray[np.int64]]:
    """All integers of the bytes, and how many bytes each takes.

    Raises:
        DataError: the bytes end inside an integer, or one is longer than ten bytes.
    """
    ends = np.flatnonzero(data < 0x80)
    if len(data) and (not len(ends) or ends[-1] != len(data) - 1):
        raise DataError("The file ends in the middle of a number: it is cut short or damaged.")
    starts = np.concatenate(([0], ends[:-1] + 1)) if len(ends) else ends
    lengths = ends - starts + 1
    longest = int(lengths.max()) if len(lengths) else 0
    if longest > _LONGEST:
        raise DataError("A number takes more than ten bytes: the file is damaged.")
    values = np.zeros(len(ends), np.uint64)
    for i in range(longest):
        at = np.flatnonzero(lengths > i)
        values[at] |= (data[starts[at] + i].astype(np.uint64) & np.uint64(0x7F)) << np.uint64(7 * i)
    return values, lengths


def one(value: int) -> bytes:
    """Bytes of one integer."""
    out = bytearray()
    while value >= 0x80:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)


def read_one(data: NDArray[np.uint8], at: int) -> tuple[int, int]:
    """The integer that starts at a place, and the place behind it.

    Raises:
        DataError: the bytes end inside it, or it is longer than ten bytes.
    """
    value = 0
    for i, byte in enumerate(data[at:at + _LONGEST].tolist()):
        value |= (byte & 0x7F) << (7 * i)
        if byte < 0x80:
            return value, at + i + 1
    raise DataError(f"There is no number at byte {at}: the file is cut short or damaged.")
