"""Measures of rankings against scikit-learn, closed forms, and ties."""

from __future__ import annotations

import numpy as np
import pytest

from gossamer.core import ConfigError, DataError
from gossamer.retrieval.measures import ndcg, recall, recall_of_relevant, reciprocal_rank


def test_ndcg_equals_scikit_learns() -> None:
    metrics = pytest.importorskip("sklearn.metrics")
    rng = np.random.default_rng(0)
    gains = rng.integers(0, 4, (20, 50)) * (rng.random((20, 50)) < 0.2)
    gains[:, 0] = 1
    scores = rng.permuted(np.tile(np.arange(50.0), (20, 1)), axis=1)
    found = np.argsort(-scores, 1)[:, :15]
    ours = ndcg(found, [dict(enumerate(row.tolist())) for row in gains], 10)
    theirs = [metrics.ndcg_score(g[None], s[None], k=10) for g, s in zip(gains, scores)]
    np.testing.assert_allclose(ours, theirs, rtol=1e-12)


def test_ranks_and_shares() -> None:
    found = np.array([[3, 1, 2], [5, 6, -1], [0, 1, 2]])
    judged = [{1: 1.0, 2: 2.0, 3: 0.0, 9: 1.0}, {7: 1.0}, {}]
    np.testing.assert_array_equal(reciprocal_rank(found, judged, 3), [0.5, 0.0, np.nan])
    np.testing.assert_array_equal(recall_of_relevant(found, judged, 3), [2 / 3, 0.0, np.nan])
    np.testing.assert_array_equal(ndcg(found, judged, 3)[1:], [0.0, np.nan])


def test_recall_takes_any_document_of_an_equal_score() -> None:
    exact = np.array([[3.0, 2.0, 2.0, 2.0], [1.0, 0.5, 0.0, 0.0], [0.0, 0.0, 0.0, 0.0]])
    found = np.array([[2.0, 2.0, 1.0], [1.0, 0.0, 0.0], [0.0, 0.0, 0.0]])
    np.testing.assert_allclose(recall(found, exact, 3), [2 / 3, 0.5, 1.0])
    np.testing.assert_allclose(recall(found, exact, 2), [1.0, 0.5, 1.0])


def test_bad_input_in_one_sentence() -> None:
    with pytest.raises(ConfigError, match="at least 1"):
        ndcg(np.zeros((1, 2), np.int64), [{}], 0)
    with pytest.raises(DataError, match="2 queries"):
        reciprocal_rank(np.zeros((1, 2), np.int64), [{}, {}])
    with pytest.raises(ConfigError, match="k answers"):
        recall(np.zeros((1, 5)), np.zeros((1, 4)), 5)
