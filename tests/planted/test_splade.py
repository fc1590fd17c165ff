"""Generated vectors: the statistics that their law names, and any part of them drawn alone."""

from __future__ import annotations

import numpy as np
import pytest

from gossamer.core import ConfigError
from gossamer.layout.rows import as_rows
from gossamer.ops.postings import Searcher, build
from gossamer.planted import SpladeLike, TopicMixture, splade_like

LAWS = [TopicMixture(), splade_like(), splade_like("esplade"), splade_like("unicoil")]


@pytest.mark.parametrize("law", [TopicMixture(topics=50), SpladeLike(topics=50)])
def test_a_part_drawn_alone_is_that_of_the_whole(law: TopicMixture | SpladeLike) -> None:
    starts, terms, weights = law.documents(0, 5000)
    part = law.documents(4000, 4200)
    run = slice(starts[4000], starts[4200])
    np.testing.assert_array_equal(part[0], starts[4000:4201] - starts[4000])
    np.testing.assert_array_equal(part[1], terms[run])
    np.testing.assert_array_equal(part[2], weights[run])
    assert [len(x) for x in law.documents(7, 7)] == [1, 0, 0]
    other = type(law)(seed=1, topics=50).documents(4000, 4200)
    assert len(other[1]) != len(part[1])


@pytest.mark.parametrize(("law", "terms", "query_terms"), [
    (LAWS[0], 126, 42.3), (LAWS[1], 106, 43.7), (LAWS[2], 181, 5.9), (LAWS[3], 68, 6),
])
def test_lengths_are_those_of_the_vectors_imitated(law, terms: float, query_terms: float) -> None:
    rows = as_rows(law.documents(0, 4096), law.vocabulary)
    queries = as_rows(law.queries(200, 4096)[0], law.vocabulary)
    assert rows.nnz / 4096 == pytest.approx(terms, rel=0.05)
    assert queries.nnz / 200 == pytest.approx(query_terms, rel=0.1)


def test_weights_hold_as_much_as_those_of_splade() -> None:
    rows = as_rows(splade_like().documents(0, 500), 30522)
    queries = as_rows(splade_like().queries(200, 500)[0], 30522)

    def share(some, count: int) -> float:
        ordered = [np.sort(some.row(i)[1])[::-1] for i in range(some.count)]
        return float(np.mean([w[:count].sum() / w.sum() for w in ordered]))

    assert share(rows, 50) == pytest.approx(0.78, abs=0.04)
    assert share(queries, 10) == pytest.approx(0.76, abs=0.04)


@pytest.mark.parametrize("law", [TopicMixture(seed=2), SpladeLike(seed=2)])
def test_queries_find_their_source(law: TopicMixture | SpladeLike) -> None:
    queries, source = law.queries(50, 6000)
    assert source.max() < 6000
    rows = as_rows(law.documents(0, 6000), law.vocabulary)
    found = Searcher([build(rows)]).search(as_rows(queries, law.vocabulary), 10, exact=True)
    assert (found.documents == source[:, None]).any(1).mean() >= 0.8


def test_bad_input_in_one_sentence() -> None:
    for call, message in (
        (lambda: splade_like("spladee"), "splade"), (lambda: SpladeLike(vocabulary=10), "1000"),
        (lambda: SpladeLike().documents(5, 2), "range"),
        (lambda: TopicMixture().queries(0, 10), "at least 1"),
    ):
        with pytest.raises(ConfigError, match=message):
            call()
