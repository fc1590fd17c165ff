"""Blocked lists: pruned lists of documents in blocks, and a summary of each block."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gossamer import native
from gossamer.core import ConfigError, DataError, NeedsError
from gossamer.layout.rows import Rows
from gossamer.ops.postings.segment import kept_weights
from gossamer.ops.seismic.config import Seismic

__all__ = ["BlockedLists", "build"]

_MOST_BLOCKS = 65_535
_ORDERS = ("clustered", "weight", "document")  # by the number that they have in native code
_MOST_DOCUMENTS = 2**31 - 1


@dataclass(frozen=True, eq=False)
class BlockedLists:
    """What a search reads of a set of documents; the arrays are never changed.

    The summaries of one list lie by coordinate: for each coordinate that any of them has, the
    blocks that have it, each with an 8-bit code c that stands for ``least + step * c``.

    Args:
        lists: int64 ``[vocabulary + 1]``, first posting of each term.
        postings: uint32 ``[postings]``, documents, block after block.
        blocks: int64 ``[vocabulary + 1]``, first block of each term.
        ends: uint32 ``[blocks]``, end of each block in its list.
        scales: float32 ``[blocks, 2]``, least value and step of each summary.
        columns: int64 ``[vocabulary + 1]``, first coordinate of the summaries of each term.
        coordinates: uint16 or uint32 ``[columns]``, rising in each list.
        column_ends: uint32 ``[columns]``, end of the entries of each in its list.
        entries: int64 ``[vocabulary + 1]``, first entry of each term.
        members: uint16 ``[entries]``, block of each entry in its list.
        codes: uint8 ``[entries]``.
        starts: int64 ``[documents + 1]``, first entry of each document.
        terms: uint16 or uint32 ``[nnz]``, by document, rising.
        weights: float16 or float32 ``[nnz]``: the weights that documents are scored by.
        neighbours: uint32 ``[documents, m]``, the most alike of each; 0xFFFFFFFF where there are
            fewer, m = 0 without a graph.
    """

    lists: NDArray[np.int64]
    postings: NDArray[np.uint32]
    blocks: NDArray[np.int64]
    ends: NDArray[np.uint32]
    scales: NDArray[np.float32]
    columns: NDArray[np.int64]
    coordinates: NDArray[Any]
    column_ends: NDArray[np.uint32]
    entries: NDArray[np.int64]
    members: NDArray[np.uint16]
    codes: NDArray[np.uint8]
    starts: NDArray[np.int64]
    terms: NDArray[Any]
    weights: NDArray[Any]
    neighbours: NDArray[np.uint32]

    @property
    def documents(self) -> int:
        """Number of documents."""
        return len(self.starts) - 1

    @property
    def vocabulary(self) -> int:
        """Number of terms."""
        return len(self.lists) - 1

    def arrays(self) -> dict[str, NDArray[Any]]:
        """Its arrays by name."""
        return {field.name: getattr(self, field.name) for field in fields(self)}

    def bytes(self) -> dict[str, int]:
        """Bytes of each array."""
        return {name: int(array.nbytes) for name, array in self.arrays().items()}


def build(rows: Rows, config: Seismic | None = None, *, threads: int = 1) -> BlockedLists:
    """Prune the lists of rows, cut them into blocks and sum every block up.

    The same rows and parameters give the same arrays, with any number of threads.

    Raises:
        ConfigError: a list would have more than 65,535 blocks, or threads is below 1.
        DataError: there are too many documents, or a weight is too large for float16.
        NeedsError: the compiled core is not there.

    >>> from gossamer.layout.rows import as_rows
    >>> lists = build(as_rows([{0: 1.0, 2: 0.5}, {2: 2.0}]))
    >>> lists.documents, lists.postings.tolist(), lists.blocks.tolist()
    (2, [0, 0, 1], [0, 1, 1, 2])
    """
    config = config or Seismic()
    if native.core is None:
        raise NeedsError("The native module is not built; install the package with pip.")
    if threads < 1:
        raise ConfigError(f"threads is {threads}; it must be at least 1.")
    if rows.count > _MOST_DOCUMENTS:
        raise DataError(f"Lists hold at most {_MOST_DOCUMENTS} documents, not {rows.count}.")
    kept, longest = _limits(rows, config)
    starts, terms = np.ascontiguousarray(rows.starts), np.ascontiguousarray(rows.terms)
    weights = kept_weights(rows, config.weights)
    exact = np.ascontiguousarray(weights, np.float32)
    made = native.core.build_seismic(
        rows.count, rows.vocabulary, [array.ctypes.data for array in (starts, terms, exact)],
        terms.dtype == np.uint32,
        [kept, longest, config.min_cluster_size, config.doc_cut, config.seed],
        [config.centroid_fraction, config.summary_energy],
        _ORDERS.index(config.blocks), config.rounding == "up", threads,
    )
    names = [field.name for field in fields(BlockedLists)]
    arrays = dict(zip(names, [*made, starts, terms, weights], strict=False))
    arrays["scales"] = arrays["scales"].reshape(-1, 2)
    return BlockedLists(**arrays, neighbours=np.empty((rows.count, 0), np.uint32))


def _limits(rows: Rows, config: Seismic) -> tuple[int, int]:
    """Entries of the whole matrix that are kept, and postings of the longest list."""
    kept, longest = max(1, rows.nnz), max(1, rows.count)
    if config.pruning == "fixed":
        longest = min(longest, config.n_postings)
    elif config.pruning == "global":
        kept = min(kept, rows.vocabulary * config.n_postings)
        longest = min(longest, int(config.max_fraction * config.n_postings))
    there = int(np.bincount(rows.terms).max()) if rows.nnz else 0
    blocks = int(config.centroid_fraction * min(there, longest))
    if blocks > _MOST_BLOCKS:
        raise ConfigError(
            f"A list of {min(there, longest)} postings would have {blocks} blocks; at most "
            f"{_MOST_BLOCKS} fit: lower centroid_fraction or n_postings."
        )
    return kept, longest
