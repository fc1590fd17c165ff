"""DocumentSearcher: MaxScore, WAND and their block-max forms over one or more sets of documents."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, TypeAlias, get_args

import numpy as np
from numpy.typing import NDArray

from gossamer import native
from gossamer.core import ConfigError, NeedsError
from gossamer.core.errors import unknown
from gossamer.layout.rows import Rows
from gossamer.ops.documentwise.lists import DocumentLists, document_lists
from gossamer.ops.postings.searcher import Bits, Found, check_bits
from gossamer.ops.postings.segment import Segment

__all__ = ["ENGINES", "DocumentSearcher", "Engine"]

Engine: TypeAlias = Literal["scan", "maxscore", "bmm", "wand", "bmw"]
ENGINES: tuple[str, ...] = get_args(Engine)
"""By the number that they have in native code."""


class DocumentSearcher:
    """Exact top-k inner products, document by document, many queries a call.

    Every engine returns what a scan in float64 would, of equal scores the earlier document first:

    - scan: adds up every posting of the query.
    - maxscore: lists that together cannot pass the k-th best score bring no candidates (Turtle and
      Flood, 1995). Good for many terms.
    - bmm: the same with bounds for every 2048 documents, from blocks of postings (Chakrabarti,
      Chaudhuri and Ganti, ICDE 2011).
    - wand: goes to the next document whose lists could pass together (Broder and others, CIKM
      2003). Good for two to four terms.
    - bmw: the same with bounds of blocks (Ding and Suel, SIGIR 2011).

    Args:
        segments: rows, segments, or lists that were built before; their documents are numbered
            one after the other.
        alive: for each of them None or a bit a document (uint64 words, lowest bit first): the
            documents that may be found.

    >>> from gossamer.layout.rows import as_rows
    >>> searcher = DocumentSearcher([as_rows([{0: 1.0, 2: 0.5}, {2: 2.0}])])
    >>> found = searcher.search(as_rows([{2: 1.0}]), 2, engine="wand")
    >>> found.documents.tolist(), found.scores.tolist()
    ([[1, 0]], [[2.0, 0.5]])
    """

    def __init__(
        self, segments: Sequence[Rows | Segment | DocumentLists],
        alive: Sequence[Bits | None] | None = None,
    ) -> None:
        if native.core is None:
            raise NeedsError("The native module is not built; install the package with pip.")
        self.segments = tuple(_lists(segment) for segment in segments)
        self._alive = tuple(alive) if alive is not None else (None,) * len(self.segments)
        self._native = native.core.DocumentLists()
        self.documents = 0
        # Arrays whose addresses the native object holds.
        self._held: list[NDArray[np.generic]] = []
        for lists, bits in zip(self.segments, self._alive, strict=True):
            check_bits(lists.documents, bits)
            arrays = [np.ascontiguousarray(array) for array in lists.arrays().values()]
            self._held += arrays
            addresses = [array.ctypes.data for array in arrays]
            self._native.append(
                lists.documents, lists.vocabulary,
                [*addresses, 0 if bits is None else bits.ctypes.data], self.documents)
            self.documents += lists.documents

    def search(
        self, queries: Rows, k: int, *, engine: str = "maxscore",
        allowed: Sequence[Bits] | None = None, threads: int = 1,
    ) -> Found:
        """The k documents of highest inner product with each query, and what finding them took.

        Args:
            queries: rows; terms beyond the vocabulary match nothing.
            k: at least 1.
            engine: one of `ENGINES`; see the class.
            allowed: a bit a document for each segment: only these may be found.
            threads: queries are shared out among so many.

        Raises:
            ConfigError: an unknown engine, or k or threads below 1.
        """
        if engine not in ENGINES:
            raise ConfigError(unknown("engine", engine, ENGINES))
        for name, value in (("k", k), ("threads", threads)):
            if value < 1:
                raise ConfigError(f"{name} is {value}; it must be at least 1.")
        count, k = queries.count, min(k, max(1, self.documents))
        documents, scores = np.empty((count, k), np.int64), np.empty((count, k), np.float32)
        costs = np.empty((count, 3), np.int64)
        if allowed is not None:
            for lists, bits in zip(self.segments, allowed, strict=True):
                check_bits(lists.documents, bits)
        starts, weights = (np.ascontiguousarray(x) for x in (queries.starts, queries.weights))
        terms = queries.terms.astype(np.int32)
        self._native.search(
            count, [array.ctypes.data for array in (starts, terms, weights)], k,
            ENGINES.index(engine), [bits.ctypes.data for bits in allowed or ()],
            [array.ctypes.data for array in (documents, scores, costs)], threads,
        )
        return Found(documents, scores, *costs.T)


def _lists(segment: Rows | Segment | DocumentLists) -> DocumentLists:
    if isinstance(segment, DocumentLists):
        return segment
    return document_lists(segment.rows() if isinstance(segment, Segment) else segment)
