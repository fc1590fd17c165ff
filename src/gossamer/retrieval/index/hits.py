"""Hits and Explanation: what a search answers, and why a document scored what it did."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gossamer.layout.rows import Rows
from gossamer.retrieval.index.part import Part
from gossamer.retrieval.index.snapshot import Snapshot


@dataclass(frozen=True, eq=False)
class Hits:
    """Answers to a batch of queries, the best first.

    Args:
        documents: int64 ``[queries, k]``, numbered through the snapshot; -1 where there are fewer.
        scores: float32 ``[queries, k]``, falling; 0 where there is no document.
        postings: int64 ``[queries]``, postings that were added up.
        scored: int64 ``[queries]``, documents whose score was computed.
        exact: whether the answer is that of a scan.
    """

    documents: NDArray[np.int64]
    scores: NDArray[np.float32]
    postings: NDArray[np.int64]
    scored: NDArray[np.int64]
    exact: bool
    snapshot: Snapshot = field(repr=False)

    @cached_property
    def ids(self) -> list[list[Any]]:
        """Identifiers of the documents found, a list for each query."""
        count, k = self.documents.shape
        if count and self.documents[:, -1].min() >= 0:  # the usual case: no place is empty
            every = self.snapshot.ids_of(self.documents.reshape(-1))
            return [every[i * k:i * k + k] for i in range(count)]
        counts = (self.documents >= 0).sum(1).tolist()
        found = self.snapshot.ids_of(self.documents[self.documents >= 0])
        lists, first = [], 0
        for count in counts:
            lists.append(found[first:first + count])
            first += count
        return lists


@dataclass(frozen=True)
class Explanation:
    """Why a document has its score with a query.

    Args:
        terms: (term, weight in the query, weight in the document, their product) of the terms that
            both have, the largest product first.
        score: sum of the products.
    """

    terms: list[tuple[int, float, float, float]]
    score: float


def explained(query: Rows, part: Part, row: int) -> Explanation:
    """The terms that one query and one document share."""
    asked, query_weights = query.row(0)
    held, weights = part.row(row)
    shared, in_query, in_document = np.intersect1d(
        asked.astype(np.int64), held.astype(np.int64), assume_unique=True, return_indices=True)
    left = query_weights[in_query].astype(np.float64)
    right = weights[in_document].astype(np.float64)
    order = np.argsort(-left * right, kind="stable")
    columns = (shared[order], left[order], right[order], (left * right)[order])
    return Explanation(list(zip(*(column.tolist() for column in columns))),
                       float((left * right).sum()))
