"""The truth that an index is compared with: a dictionary, and a scan in exact arithmetic."""

from __future__ import annotations

import random
from typing import Any

from gossamer.retrieval.index import Hits, SparseIndex

VOCABULARY = 12
Row = dict[int, float]
Model = dict[Any, tuple[Row, Any]]


def random_row(rng: random.Random) -> Row:
    """Terms with weights of eighths: sums of their products are exact in float32."""
    terms = rng.sample(range(VOCABULARY), rng.randint(1, 5))
    return {term: rng.randint(1, 16) / 8 for term in terms}


def score(query: Row, row: Row) -> float:
    """The inner product."""
    return sum(weight * row.get(term, 0.0) for term, weight in query.items())


def check_hits(hits: Hits, query: Row, model: Model, k: int) -> None:
    """The first answer of an exact search is one of the best that the model has."""
    scores = {one: score(query, row) for one, (row, _) in model.items()}
    best = sorted((value for value in scores.values() if value > 0), reverse=True)[:k]
    found = hits.ids[0]
    assert [float(value) for value in hits.scores[0][:len(found)]] == best
    assert [scores[one] for one in found] == best
    assert len(set(found)) == len(found)


def check_all(
    index: SparseIndex, model: Model, rng: random.Random, *, every: bool = False,
) -> None:
    """Everything that can be asked of an index is what the model says."""
    assert len(index) == len(model)
    assert sorted(index.ids()) == sorted(model)
    for _ in range(3):
        query = random_row(rng)
        check_hits(index.search([query], k=5, exact=True), query, model, 5)
    for one in rng.sample(sorted(model), len(model) if every else min(3, len(model))):
        row, payload = model[one]
        assert index.payload(one) == payload
        assert index.explain(dict.fromkeys(range(VOCABULARY), 1.0), one).score == sum(row.values())
