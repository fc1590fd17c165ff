"""A bit a document: which of a segment's documents are alive, or may be found."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

Bits = NDArray[np.uint64]


def none(count: int) -> Bits:
    """No bit of ``count`` is set."""
    return np.zeros((count + 63) // 64, np.uint64)


def every(count: int) -> Bits:
    """Each bit of ``count`` is set, and none beyond."""
    return packed(np.ones(count, np.bool_))


def packed(flags: NDArray[np.bool_]) -> Bits:
    """Flags as words, lowest bit first."""
    words = none(len(flags))
    words.view(np.uint8)[: (len(flags) + 7) // 8] = np.packbits(flags, bitorder="little")
    return words


def flags(bits: Bits, count: int) -> NDArray[np.bool_]:
    """Words as a flag a document."""
    found: NDArray[np.bool_] = np.unpackbits(
        bits.view(np.uint8), count=count, bitorder="little").view(np.bool_)
    return found


def test(bits: Bits, rows: NDArray[np.integer[Any]]) -> NDArray[np.bool_]:
    """Whether the bits at ``rows`` are set."""
    rows = rows.astype(np.int64)
    words = bits[rows >> 6] >> (rows & 63).astype(np.uint64)
    return np.asarray(words & np.uint64(1), np.bool_)


def without(bits: Bits, rows: NDArray[np.integer[Any]]) -> Bits:
    """A copy in which the bits at ``rows`` are not set."""
    rows = rows.astype(np.int64)
    cleared: Bits = bits.copy()
    np.bitwise_and.at(
        cleared, rows >> 6, ~(np.uint64(1) << (rows & 63).astype(np.uint64)))
    return cleared
