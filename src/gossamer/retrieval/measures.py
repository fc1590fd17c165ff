"""How good a ranking is: against judgements, and against an exact search."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from gossamer.core import ConfigError, DataError

__all__ = ["Judgements", "ndcg", "recall", "recall_of_relevant", "reciprocal_rank"]

Judgements: TypeAlias = Sequence[Mapping[int, float]]
"""For each query the gain of each judged document; gains of zero or less are not relevant."""


def ndcg(found: NDArray[np.int64], judgements: Judgements, k: int = 10) -> NDArray[np.float64]:
    """Discounted gain of the first k over that of the best order, ``[queries]``.

    The gain of rank r counts ``1 / log2(r + 1)``, as in trec_eval; a query without any relevant
    document has none and gives nan.

    Args:
        found: documents of each query, the best first; -1 where there is none.
        judgements: gains of the documents of each query.
        k: ranks that count.

    >>> ndcg(np.array([[4, 7]]), [{7: 1.0}])
    array([0.63092975])
    """
    _check(found, judgements, k)
    discounts = 1 / np.log2(np.arange(2, k + 2))
    result = np.full(len(judgements), np.nan)
    for q, gains in enumerate(judgements):
        best = np.sort([gain for gain in gains.values() if gain > 0])[::-1][:k]
        if len(best):
            got = [max(0.0, gains.get(int(d), 0.0)) for d in found[q, :k]]
            result[q] = (got @ discounts[:len(got)]) / (best @ discounts[:len(best)])
    return result


def reciprocal_rank(
    found: NDArray[np.int64], judgements: Judgements, k: int = 10,
) -> NDArray[np.float64]:
    """One over the rank of the first relevant document among the first k, else 0, ``[queries]``.

    A query without any relevant document gives nan.
    """
    _check(found, judgements, k)
    result = np.full(len(judgements), np.nan)
    for q, relevant in enumerate(map(_relevant, judgements)):
        if relevant:
            ranks = [r for r, d in enumerate(found[q, :k], 1) if int(d) in relevant]
            result[q] = 1 / ranks[0] if ranks else 0.0
    return result


def recall_of_relevant(
    found: NDArray[np.int64], judgements: Judgements, k: int = 100,
) -> NDArray[np.float64]:
    """Share of the relevant documents that are among the first k, ``[queries]``.

    A query without any relevant document gives nan.
    """
    _check(found, judgements, k)
    result = np.full(len(judgements), np.nan)
    for q, relevant in enumerate(map(_relevant, judgements)):
        if relevant:
            result[q] = len(relevant.intersection(found[q, :k].tolist())) / len(relevant)
    return result


def recall(
    scores: NDArray[np.floating], exact: NDArray[np.floating], k: int, tolerance: float = 1e-4,
) -> NDArray[np.float64]:
    """Share of the k best answers that a search found, counted by score, ``[queries]``.

    An answer counts where its score reaches that of the k-th best, so that any of several
    documents of equal score does as well. Where fewer than k documents match a query, those count;
    a query that nothing matches gives 1.

    Args:
        scores: true scores of the answers, ``[queries, >= k]``; 0 where there is none.
        exact: scores of an exact search, falling, ``[queries, >= k]``.
        k: answers that are compared.
        tolerance: relative, for scores that were added up in another order.
    """
    if k < 1 or scores.shape[0] != exact.shape[0] or exact.shape[1] < k:
        raise ConfigError(
            f"Recall at {k} needs scores of as many queries and k answers of the exact search, not "
            f"{list(scores.shape)} and {list(exact.shape)}."
        )
    there = (exact[:, :k] > 0).sum(1)
    last = exact[np.arange(len(exact)), np.maximum(there, 1) - 1]
    good = (scores[:, :k] > 0) & (scores[:, :k] >= last[:, None] * (1 - tolerance))
    share: NDArray[np.float64] = np.minimum(good.sum(1), there) / np.maximum(there, 1)
    return np.where(there > 0, share, 1.0)


def _relevant(gains: Mapping[int, float]) -> set[int]:
    return {document for document, gain in gains.items() if gain > 0}


def _check(found: NDArray[np.int64], judgements: Judgements, k: int) -> None:
    if k < 1:
        raise ConfigError(f"k is {k}; it must be at least 1.")
    if found.ndim != 2 or len(found) != len(judgements):
        raise DataError(
            f"Answers {list(found.shape)} do not fit the judgements of {len(judgements)} queries."
        )
