"""Segment: rows and their postings by falling impact, as arrays that are never changed."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gossamer import native
from gossamer.core import ConfigError, DataError, NeedsError, StoreError
from gossamer.layout.rows import Rows

# How the head of a list lies in memory, as the native code reads it.
HEAD = np.dtype([
    ("reach", "<u4", 16), ("rest", "u1", 16), ("scale", "<f4"), ("length", "<u4"), ("first", "<i8"),
])
MOST_DOCUMENTS = 1 << 24
WEIGHTS = ("float16", "float32")


@dataclass(frozen=True, eq=False)
class Segment:
    """What a search reads of a set of documents; arrays may be memory maps.

    A posting is ``document << 8 | code``: code c of term t stands for weights in
    ``(scale * (c - 1), scale * c]``. A list is cut at one of 16 corners: its first ``reach[i]``
    postings have codes above ``rest[i]``. Between corners documents rise.

    Args:
        postings: uint32 ``[nnz]``, list after list.
        heads: `HEAD` records ``[vocabulary]``: corners, scale, length and first posting of a list.
        starts: int64 ``[documents + 1]``, first entry of each document.
        terms: uint16 or uint32 ``[nnz]``, by document, rising.
        weights: float16 or float32 ``[nnz]``: the weights that documents are scored by.
    """

    postings: NDArray[np.uint32]
    heads: NDArray[np.void]
    starts: NDArray[np.int64]
    terms: NDArray[Any]
    weights: NDArray[Any]

    @property
    def documents(self) -> int:
        """Number of documents."""
        return len(self.starts) - 1

    @property
    def vocabulary(self) -> int:
        """Number of terms."""
        return len(self.heads)

    def arrays(self) -> dict[str, NDArray[Any]]:
        """Its arrays by name."""
        return {field.name: getattr(self, field.name) for field in fields(self)}

    def bytes(self) -> dict[str, int]:
        """Bytes of each array."""
        return {name: int(array.nbytes) for name, array in self.arrays().items()}

    def rows(self) -> Rows:
        """The documents as rows, with the weights that they are scored by."""
        weights = np.asarray(self.weights, np.float32)
        return Rows(np.asarray(self.starts), np.asarray(self.terms), weights, self.vocabulary)

    @classmethod
    def of(cls, arrays: Mapping[str, NDArray[Any]]) -> Segment:
        """A segment of arrays that were stored, after checks that make a search safe.

        Raises:
            StoreError: an array is missing, of another type, or does not fit the others.
        """
        names = [field.name for field in fields(cls)]
        missing = [name for name in names if name not in arrays]
        if missing:
            raise StoreError(f"A segment lacks {', '.join(missing)}; rebuild the index.")
        segment = cls(**{name: arrays[name] for name in names})
        _check(segment)
        return segment


def build(rows: Rows, *, weights: str = "float16", threads: int = 1) -> Segment:
    """Sort rows into postings by falling impact.

    Args:
        rows: at most 16,777,216 documents.
        weights: how weights are kept: "float16" rounds them to 11 bits, "float32" keeps them.
        threads: for the sorting of lists.

    Raises:
        ConfigError: another kind of weights.
        DataError: too many documents, or a weight that is too large for float16.
        NeedsError: the compiled core is not there.

    >>> from gossamer.layout.rows import as_rows
    >>> segment = build(as_rows([[(0, 1.0), (2, 0.5)], [(2, 2.0)]]))
    >>> segment.documents, segment.vocabulary, int(segment.postings[1] >> 8)
    (2, 3, 1)
    """
    if weights not in WEIGHTS:
        raise ConfigError(f"Weights are kept as float16 or float32, not {weights!r}.")
    if rows.count > MOST_DOCUMENTS:
        raise DataError(f"A segment holds at most {MOST_DOCUMENTS} documents, not {rows.count}.")
    if native.core is None:
        raise NeedsError("The native module is not built; install the package with pip.")
    kept = kept_weights(rows, weights)
    exact = np.ascontiguousarray(kept, np.float32)
    segment = Segment(
        np.empty(rows.nnz, np.uint32), np.zeros(rows.vocabulary, HEAD),
        np.ascontiguousarray(rows.starts), np.ascontiguousarray(rows.terms), kept,
    )
    native.core.build_postings(
        rows.count, rows.vocabulary, segment.starts.ctypes.data, segment.terms.ctypes.data,
        segment.terms.dtype == np.uint32, exact.ctypes.data, segment.postings.ctypes.data,
        segment.heads.ctypes.data, threads,
    )
    return segment


def kept_weights(rows: Rows, weights: str) -> NDArray[Any]:
    """The weights of rows as "float16" or "float32" keeps them; none becomes zero.

    Raises:
        DataError: a weight is too large for float16.
    """
    if weights == "float32":
        return np.ascontiguousarray(rows.weights, np.float32)
    if rows.nnz and float(rows.weights.max()) > float(np.finfo(np.float16).max):
        raise DataError(
            f"A weight of {float(rows.weights.max())} is too large for float16 (65504); keep "
            "weights as float32 or scale them."
        )
    # Too small for float16 is still more than nothing: it stays a match.
    kept: NDArray[Any] = np.maximum(rows.weights, np.float32(2**-24)).astype(np.float16)
    return kept


def _check(segment: Segment) -> None:
    nnz, vocabulary = len(segment.postings), segment.vocabulary
    sound = (
        segment.postings.dtype == np.uint32 and segment.heads.dtype == HEAD
        and segment.starts.dtype == np.int64 and segment.heads.ndim == segment.starts.ndim == 1
        and segment.terms.dtype == (np.uint16 if vocabulary <= 1 << 16 else np.uint32)
        and segment.weights.dtype in (np.float16, np.float32)
        and segment.documents <= MOST_DOCUMENTS
        and segment.terms.shape == segment.weights.shape == segment.postings.shape == (nnz,)
        and len(segment.starts) > 0 and segment.starts[0] == 0 and segment.starts[-1] == nnz
        and bool((np.diff(segment.starts) >= 0).all())
        and _heads_fit(segment.heads, nnz)
        and (nnz == 0 or int(segment.postings.max()) >> 8 < segment.documents)
        and (nnz == 0 or int(segment.terms.max()) < vocabulary)
    )
    if not sound:
        raise StoreError("The arrays of a segment do not fit together; rebuild the index.")


def _heads_fit(heads: NDArray[np.void], nnz: int) -> bool:
    lengths = heads["length"].astype(np.int64)
    ends = np.cumsum(lengths)
    reach, scale = heads["reach"], heads["scale"]
    return bool(
        (len(heads) == 0 and nnz == 0) or (
            ends[-1] == nnz and (heads["first"] == ends - lengths).all()
            and (reach[:, -1] == lengths).all() and (reach[:, 1:] >= reach[:, :-1]).all()
            and np.isfinite(scale).all() and (scale > 0).all()
        )
    )
