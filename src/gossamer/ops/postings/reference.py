"""The truth of search: all inner products in float64, the best first."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from gossamer.layout.rows import Rows


def search(documents: Rows, queries: Rows, k: int) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """The k documents of highest inner product of each query, and their scores.

    Of equal scores the earlier document comes first; documents that share no term with the query
    are not found, and places without a document hold -1 and 0.
    """
    ids = np.full((queries.count, k), -1, np.int64)
    scores = np.zeros((queries.count, k))
    row_of = np.repeat(np.arange(documents.count), np.diff(documents.starts))
    for q in range(queries.count):
        query = np.zeros(max(documents.vocabulary, queries.vocabulary))
        terms, weights = queries.row(q)
        query[terms] = weights
        products = query[documents.terms] * documents.weights.astype(np.float64)
        total = np.bincount(row_of, products, documents.count)
        best = np.argsort(-total, kind="stable")[:k]
        best = best[total[best] > 0]
        ids[q, :len(best)], scores[q, :len(best)] = best, total[best]
    return ids, scores
