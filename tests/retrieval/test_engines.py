"""Every engine of an index finds what a scan does, through segments, deletions and filters."""

from __future__ import annotations

import numpy as np
import pytest

from gossamer.core import ConfigError
from gossamer.layout.rows import as_rows
from gossamer.ops.documentwise import ENGINES
from gossamer.ops.postings import search_reference
from gossamer.planted import TopicMixture
from gossamer.retrieval import SparseIndex

LAW = TopicMixture(topics=20, vocabulary=2000)


@pytest.mark.parametrize("engine", ENGINES)
def test_engines_of_an_index(engine: str) -> None:
    rows = as_rows(LAW.documents(0, 600), 2000)
    queries = as_rows(LAW.queries(10, 600)[0], 2000)
    index = SparseIndex.build(rows.take(0, 400), ids=[f"d{i}" for i in range(400)])
    index.add(rows.take(400, 600), ids=[f"d{i}" for i in range(400, 600)])
    index.delete([f"d{i}" for i in range(0, 600, 7)])
    hits = index.search(queries, 10, engine=engine)
    truth, _ = search_reference(rows, queries, 100)
    for q in range(queries.count):
        left = [f"d{d}" for d in truth[q] if d % 7][:10]
        # Weights are kept in float16, so neighbours of nearly equal score may change places.
        assert len(set(hits.ids[q]) & set(left)) >= 9
    assert hits.exact
    exact = index.search(queries, 10, exact=True)
    np.testing.assert_allclose(hits.scores, exact.scores, rtol=1e-5)
    only = index.search(queries, 3, engine=engine, filter=["d1", "d2", "d401"])
    assert all(set(ids) <= {"d1", "d2", "d401"} for ids in only.ids)
    index.close()


def test_an_unknown_engine_is_refused() -> None:
    index = SparseIndex.build([{0: 1.0}])
    with pytest.raises(ConfigError, match="did you mean"):
        index.search([{0: 1.0}], engine="wnad")
