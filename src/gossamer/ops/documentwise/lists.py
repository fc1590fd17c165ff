"""Lists in order of document, with the largest weight of every list and of every block of it."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gossamer import native
from gossamer.core import DataError, NeedsError
from gossamer.layout.rows import Rows

__all__ = ["DocumentLists", "document_lists"]

BLOCK = 64
_TOPS = 3
_MOST_DOCUMENTS = 2**31 - 1


@dataclass(frozen=True, eq=False)
class DocumentLists:
    """What an exact search reads of a set of documents; the arrays are never changed.

    Args:
        documents: how many there are.
        lists: int64 ``[vocabulary + 1]``, first posting of each term.
        ids: uint32 ``[nnz]``, documents of each list, rising.
        weights: float32 ``[nnz]``.
        blocks: int64 ``[vocabulary + 1]``, first block of each term; a block is 64 postings.
        ends: uint32 ``[blocks]``, last document of each.
        maxima: float32 ``[blocks]``, largest weight of each.
        most: float32 ``[vocabulary]``, largest weight of each term.
        tops: float32 ``[vocabulary, 3]``, the weights at ranks 10, 100 and 1000 of each list, 0
            where a list is shorter: a search starts with them as its threshold.
    """

    documents: int
    lists: NDArray[np.int64]
    ids: NDArray[np.uint32]
    weights: NDArray[np.float32]
    blocks: NDArray[np.int64]
    ends: NDArray[np.uint32]
    maxima: NDArray[np.float32]
    most: NDArray[np.float32]
    tops: NDArray[np.float32]

    @property
    def vocabulary(self) -> int:
        """Number of terms."""
        return len(self.most)

    def arrays(self) -> dict[str, NDArray[Any]]:
        """Its arrays by name."""
        return {field.name: getattr(self, field.name) for field in fields(self)[1:]}

    def bytes(self) -> dict[str, int]:
        """Bytes of each array."""
        return {name: int(array.nbytes) for name, array in self.arrays().items()}


def document_lists(rows: Rows) -> DocumentLists:
    """Sort rows into lists by term, documents rising.

    Raises:
        DataError: there are more than 2,147,483,647 documents.
        NeedsError: the compiled core is not there.

    >>> from gossamer.layout.rows import as_rows
    >>> lists = document_lists(as_rows([[(0, 1.0), (2, 0.5)], [(2, 2.0)]]))
    >>> lists.ids.tolist(), lists.most.tolist()
    ([0, 0, 1], [1.0, 0.0, 2.0])
    """
    if native.core is None:
        raise NeedsError("The native module is not built; install the package with pip.")
    if rows.count > _MOST_DOCUMENTS:
        raise DataError(f"Lists hold at most {_MOST_DOCUMENTS} documents, not {rows.count}.")
    lengths = np.bincount(rows.terms, minlength=rows.vocabulary)
    starts, terms, weights = (
        np.ascontiguousarray(part) for part in (rows.starts, rows.terms, rows.weights))
    blocks = _edges((lengths + BLOCK - 1) // BLOCK)
    count = int(blocks[-1])
    lists = DocumentLists(
        rows.count, _edges(lengths), np.empty(rows.nnz, np.uint32), np.empty(rows.nnz, np.float32),
        blocks, np.empty(count, np.uint32), np.empty(count, np.float32),
        np.zeros(rows.vocabulary, np.float32), np.zeros((rows.vocabulary, _TOPS), np.float32),
    )
    native.core.build_document_lists(
        rows.count, rows.vocabulary, [part.ctypes.data for part in (starts, terms, weights)],
        terms.dtype == np.uint32, [array.ctypes.data for array in lists.arrays().values()],
    )
    return lists


def _edges(lengths: NDArray[Any]) -> NDArray[np.int64]:
    return np.concatenate((np.zeros(1, np.int64), np.cumsum(lengths, dtype=np.int64)))
