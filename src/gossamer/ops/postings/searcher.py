"""Searcher: segments that are searched as one index, many queries a call."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from gossamer import native
from gossamer.core import ConfigError, NeedsError
from gossamer.layout.rows import Rows
from gossamer.ops.postings.segment import Segment

Bits = NDArray[np.uint64]


@dataclass(frozen=True, eq=False)
class Found:
    """Answers of a search.

    Args:
        documents: int64 ``[queries, k]``, numbered through all segments; -1 where there are fewer.
        scores: float32 ``[queries, k]``, falling.
        postings: int64 ``[queries]``, postings that were added up.
        scored: int64 ``[queries]``, documents whose score was computed.
        blocks: int64 ``[queries]``, bounds of blocks that were read, where an engine has them.
    """

    documents: NDArray[np.int64]
    scores: NDArray[np.float32]
    postings: NDArray[np.int64]
    scored: NDArray[np.int64]
    blocks: NDArray[np.int64] | None = None


class Searcher:
    """Top-k inner products over segments, in native code, on as many threads as asked.

    Each query goes in two steps. Contributions are added up in narrow integers, list by list from
    the weightiest level down, each list as deep as a posting there buys more score than elsewhere
    (Lagrangian shares of a posting budget); then the documents of the best sums are scored from
    their rows. With ``exact`` the first step goes on until no other document can be among the k
    best, so the answer is that of a scan. Adding up by impact: Anh, de Kretser and Moffat,
    "Vector-space ranking with effective early termination", SIGIR 2001; Lin and Trotman, "Anytime
    ranking for impact-ordered indexes", ICTIR 2015.

    Args:
        segments: their documents are numbered one after the other.
        alive: for each segment None or a bit a document (uint64 words, lowest bit first): the
            documents that may be found.
    """

    def __init__(
        self, segments: Sequence[Segment], alive: Sequence[Bits | None] | None = None,
    ) -> None:
        if native.core is None:
            raise NeedsError("The native module is not built; install the package with pip.")
        self.segments = tuple(segments)
        self._alive = tuple(alive) if alive is not None else (None,) * len(self.segments)
        self._native = native.core.Segments()
        self.documents = 0
        # Arrays whose addresses the native object holds.
        self._held: list[NDArray[np.generic]] = []
        for segment, bits in zip(self.segments, self._alive, strict=True):
            check_bits(segment.documents, bits)
            arrays = [np.ascontiguousarray(array) for array in segment.arrays().values()]
            self._held += arrays
            self._native.append(
                segment.documents, segment.vocabulary,
                [*(array.ctypes.data for array in arrays), 0 if bits is None else bits.ctypes.data],
                segment.terms.dtype == np.uint32, segment.weights.dtype == np.float16,
                self.documents,
            )
            self.documents += segment.documents

    def search(
        self, queries: Rows, k: int, *, budget: int = 0, candidates: int = 0, exact: bool = False,
        allowed: Sequence[Bits] | None = None, threads: int = 1,
    ) -> Found:
        """The k documents of highest inner product with each query.

        Args:
            queries: rows; terms beyond a segment's vocabulary match nothing.
            k: at least 1.
            budget: postings added up for a query, over all segments together; a query whose best
                sums cannot be told apart is added up again in larger units.
            candidates: documents scored for a query and segment; at least k are.
            exact: ignore budget and candidates and return what a scan would.
            allowed: a bit a document for each segment: only these may be found.
            threads: queries are shared out among so many.

        Raises:
            ConfigError: k, budget, candidates or threads is out of range.
        """
        for name, value, least in (
            ("k", k, 1), ("threads", threads, 1), ("budget", budget, 0 if exact else 1),
            ("candidates", candidates, 0),
        ):
            if value < least:
                raise ConfigError(f"{name} is {value}; it must be at least {least}.")
        if allowed is not None:
            for segment, bits in zip(self.segments, allowed, strict=True):
                check_bits(segment.documents, bits)
        return Found(*self._native.search(
            np.ascontiguousarray(queries.starts), queries.terms.astype(np.int32),
            np.ascontiguousarray(queries.weights), min(k, max(1, self.documents)), budget,
            candidates, exact, [bits.ctypes.data for bits in allowed or ()], threads,
        ))


def check_bits(documents: int, bits: Bits | None) -> None:
    """Refuse what is not a bit for each of so many documents of a segment."""
    if bits is None:
        return
    words = (documents + 63) // 64
    if bits.dtype != np.uint64 or bits.shape != (words,) or not bits.flags.c_contiguous:
        raise ConfigError(
            f"A segment of {documents} documents takes a contiguous array of {words} "
            f"uint64 words, not {bits.dtype} {list(bits.shape)}."
        )
