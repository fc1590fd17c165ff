"""SeismicSearcher: blocks whose summary beats the k-th best score are scored exactly."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from gossamer import native
from gossamer.core import ConfigError, NeedsError
from gossamer.layout.rows import Rows
from gossamer.ops.postings.searcher import Bits, Found, check_bits
from gossamer.ops.seismic.lists import BlockedLists

__all__ = ["SeismicSearcher", "Visit", "neighbours"]

NOBODY = 0xFFFFFFFF
_CHUNK = 65_536  # documents that look for neighbours in one call


@dataclass(frozen=True)
class Visit:
    """What one list of a query took.

    Args:
        term: of the list; -1 for the pass over neighbours.
        postings: documents of the list.
        blocks: their blocks, all of which were estimated.
        opened: blocks whose documents were looked at.
        entries: entries of summaries that were read.
        scored: documents that were scored for the first time.
    """

    term: int
    postings: int
    blocks: int
    opened: int
    entries: int
    scored: int


class SeismicSearcher:
    """Approximate top-k inner products over blocked lists, many queries a call.

    The lists of the query's weightiest terms are visited one after the other. In each, all blocks
    are estimated by their summaries, and a block is scored where its estimate reaches
    ``heap_factor`` times the k-th best score so far.

    Args:
        lists: see `build`.
        alive: None or a bit a document (uint64 words, lowest bit first): those that may be found.

    >>> from gossamer.layout.rows import as_rows
    >>> from gossamer.ops.seismic import build
    >>> searcher = SeismicSearcher(build(as_rows([{0: 1.0, 2: 0.5}, {2: 2.0}])))
    >>> found = searcher.search(as_rows([{2: 1.0}]), 2)
    >>> found.documents.tolist(), found.scores.tolist()
    ([[1, 0]], [[2.0, 0.5]])
    """

    def __init__(self, lists: BlockedLists, alive: Bits | None = None) -> None:
        check_bits(lists.documents, alive)
        if native.core is None:
            raise NeedsError("The native module is not built; install the package with pip.")
        self.lists = lists
        self._alive = alive
        # Arrays whose addresses the native object holds.
        self._held = [np.ascontiguousarray(array) for array in lists.arrays().values()]
        self._native = native.core.SeismicLists(
            lists.documents, lists.vocabulary, [array.ctypes.data for array in self._held],
            lists.terms.dtype == np.uint32, lists.weights.dtype == np.float16,
            lists.neighbours.shape[1],
        )

    def search(
        self, queries: Rows, k: int, *, query_cut: int = 10, heap_factor: float = 0.7,
        first_sorted: bool = True, knn: int = 0, threads: int = 1,
    ) -> Found:
        """The k best documents that were met for each query, and what finding them took.

        In what is returned, ``postings`` counts entries of summaries that were read and ``blocks``
        the blocks that were estimated.

        Args:
            queries: rows; terms beyond the vocabulary match nothing.
            k: at least 1.
            query_cut: lists that are visited, those of the weightiest terms; 0: all.
            heap_factor: share of the k-th best score that an estimate has to reach; lower scores
                more documents.
            first_sorted: take the blocks of the first list from the best estimate down.
            knn: neighbours of each of the k best that are scored in the end.
            threads: queries are shared out among so many.

        Raises:
            ConfigError: an argument is out of range, or the lists have no graph for ``knn``.
        """
        self._check(k, query_cut, heap_factor, knn, threads)
        found, _ = self._ask(queries, (k, query_cut, int(first_sorted), knn), heap_factor, threads)
        return found

    def explain(
        self, query: Rows, k: int, *, query_cut: int = 10, heap_factor: float = 0.7,
        first_sorted: bool = True, knn: int = 0,
    ) -> list[Visit]:
        """What each list that a search visits took, in the order of the visits.

        Raises:
            ConfigError: there is not exactly one query, or an argument is out of range.
        """
        self._check(k, query_cut, heap_factor, knn, 1)
        if query.count != 1:
            raise ConfigError(f"One query is explained at a time, not {query.count}.")
        _, visits = self._ask(query, (k, query_cut, int(first_sorted), knn), heap_factor, 1)
        return visits

    def _check(
        self, k: int, query_cut: int, heap_factor: float, knn: int, threads: int,
    ) -> None:
        for name, value, least in (
            ("k", k, 1), ("query_cut", query_cut, 0), ("knn", knn, 0), ("threads", threads, 1),
        ):
            if value < least:
                raise ConfigError(f"{name} is {value}; it must be at least {least}.")
        if not 0 <= heap_factor < float("inf"):
            raise ConfigError(f"heap_factor is {heap_factor}; it must be finite and at least 0.")
        degree = self.lists.neighbours.shape[1]
        if knn > degree:
            raise ConfigError(
                f"knn is {knn}, but these lists hold {degree} neighbours of each document; make "
                f"them with `neighbours(lists, {knn})`."
            )

    def _ask(
        self, queries: Rows, knobs: tuple[int, int, int, int], heap_factor: float,
        threads: int,
    ) -> tuple[Found, list[Visit]]:
        count, k = queries.count, min(knobs[0], max(1, self.lists.documents))
        documents, scores = np.empty((count, k), np.int64), np.empty((count, k), np.float32)
        costs = np.empty((count, 3), np.int64)
        starts, weights = (np.ascontiguousarray(x) for x in (queries.starts, queries.weights))
        terms = queries.terms.astype(np.int32)
        visits = self._native.search(
            count, [array.ctypes.data for array in (starts, terms, weights)], [k, *knobs[1:]],
            heap_factor, 0 if self._alive is None else self._alive.ctypes.data,
            [array.ctypes.data for array in (documents, scores, costs)], threads,
        )
        return Found(documents, scores, *costs.T), [Visit(*visit) for visit in visits]


def neighbours(
    lists: BlockedLists, m: int, *, query_cut: int = 10, heap_factor: float = 0.7,
    threads: int = 1,
) -> BlockedLists:
    """The same lists with the m documents that are most alike each document, by a search.

    Raises:
        ConfigError: an argument is out of range.
    """
    if m < 1:
        raise ConfigError(f"m is {m}; it must be at least 1.")
    searcher = SeismicSearcher(lists)
    rows = Rows(np.asarray(lists.starts), np.asarray(lists.terms),
                np.asarray(lists.weights, np.float32), lists.vocabulary)
    graph = np.full((lists.documents, m), NOBODY, np.uint32)
    for first in range(0, lists.documents, _CHUNK):
        last = min(first + _CHUNK, lists.documents)
        found = searcher.search(rows.take(first, last), m + 1, query_cut=query_cut,
                                heap_factor=heap_factor, threads=threads)
        others = _without_itself(found.documents, np.arange(first, last))[:, :m]
        graph[first:last, :others.shape[1]] = others
    return replace(lists, neighbours=graph)


def _without_itself(found: NDArray[np.int64], itself: NDArray[np.int64]) -> NDArray[np.uint32]:
    """Others first, in their order, then places without a document."""
    gone = (found == itself[:, None]) | (found < 0)
    order = np.argsort(gone, 1, kind="stable")
    others = np.where(gone, NOBODY, found)
    return np.take_along_axis(others, order, 1).astype(np.uint32)
