"""Blocked lists: exact where nothing is cut, sound in every part, the same every time."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gossamer import native
from gossamer.core import ConfigError, DataError
from gossamer.layout.rows import Rows, as_rows
from gossamer.ops.postings import search_reference
from gossamer.ops.seismic import BlockedLists, Seismic, SeismicSearcher, build, neighbours
from gossamer.planted.splade import splade_like

EXACT = Seismic(pruning="none", summary_energy=1.0, rounding="up", weights="float32",
                centroid_fraction=0.2)
CONFIGS = st.builds(
    dataclasses.replace, st.just(EXACT), doc_cut=st.sampled_from([0, 1, 3]),
    min_cluster_size=st.integers(0, 5), centroid_fraction=st.sampled_from([0.01, 0.2, 1.0]),
    blocks=st.sampled_from(["clustered", "weight", "document"]), seed=st.integers(0, 10**6),
)
ISAS = [isa for isa in ("plain", "avx2") if isa in native.isas()]


@pytest.fixture(params=ISAS)
def isa(request):
    before = native.isa()
    native.set_isa(request.param)
    yield request.param
    native.set_isa(before)


def collection(seed: int, count: int, vocabulary: int, length: int) -> Rows:
    """Rows of Zipfian terms, weights of few and of many values."""
    rng = np.random.default_rng(seed)
    odds = 1 / np.arange(1, vocabulary + 1) ** 0.7
    lengths = rng.integers(0, min(length, vocabulary) + 1, count)
    terms = np.argsort(-(np.log(odds) + rng.gumbel(size=(count, vocabulary))), 1)
    kept = np.arange(vocabulary) < lengths[:, None]
    weights = rng.lognormal(size=int(lengths.sum()))
    if seed % 2:
        weights = np.ceil(weights)
    return as_rows((np.concatenate(([0], np.cumsum(lengths))), terms[kept], weights), vocabulary)


def planted(seed: int, count: int, queries: int, vocabulary: int = 5000) -> tuple[Rows, Rows]:
    law = splade_like(seed=seed, vocabulary=vocabulary)
    return (as_rows(law.documents(0, count), vocabulary),
            as_rows(law.queries(queries, count)[0], vocabulary))


def check_exact(rows: Rows, queries: Rows, k: int, config: Seismic = EXACT) -> None:
    searcher = SeismicSearcher(build(rows, config))
    found = searcher.search(queries, k, query_cut=0, heap_factor=1.0)
    truth, scores = search_reference(rows, queries, min(k, max(1, rows.count)))
    np.testing.assert_array_equal(found.documents >= 0, truth >= 0)
    np.testing.assert_allclose(found.scores, scores, rtol=1e-5, atol=1e-30)
    for q in range(queries.count):
        spread = np.zeros(max(rows.vocabulary, queries.vocabulary))
        terms, weights = queries.row(q)
        spread[terms] = weights
        for d, score in zip(found.documents[q], found.scores[q], strict=True):
            if d >= 0:
                t, w = rows.row(int(d))
                np.testing.assert_allclose(score, spread[t] @ w.astype(float), rtol=1e-5)
        there = found.documents[q][found.documents[q] >= 0]
        assert len(set(there.tolist())) == len(there)


@settings(deadline=None, max_examples=60)
@given(count=st.integers(0, 200), vocabulary=st.integers(1, 40), length=st.integers(1, 30),
       k=st.integers(1, 250), config=CONFIGS)
def test_without_cuts_the_answer_is_exact(count, vocabulary, length, k, config) -> None:
    seed = config.seed
    rows = collection(seed, count, vocabulary, length)
    check_exact(rows, collection(seed + 1, 3, vocabulary + 2, 12), k, config)


def test_exact_on_planted_vectors(isa) -> None:
    rows, queries = planted(0, 1500, 20, 30_522)
    check_exact(rows, queries, 10, dataclasses.replace(EXACT, centroid_fraction=0.02, doc_cut=5))


def test_exact_with_wide_terms(isa) -> None:
    rows, queries = planted(1, 500, 10)
    wide = [as_rows((r.starts, r.terms.astype(np.int64) * 20, r.weights), 100_000)
            for r in (rows, queries)]
    assert wide[0].terms.dtype == np.uint32
    check_exact(wide[0], wide[1], 10)


def summary(lists: BlockedLists, term: int) -> np.ndarray:
    """What the summaries of a list stand for: ``[blocks, vocabulary]``, read entry by entry."""
    first, last = lists.blocks[term:term + 2]
    dense = np.zeros((last - first, lists.vocabulary))
    before = 0
    for column in range(lists.columns[term], lists.columns[term + 1]):
        for entry in range(before, int(lists.column_ends[column])):
            at = lists.entries[term] + entry
            block = lists.members[at]
            least, step = lists.scales[first + block]
            assert dense[block, lists.coordinates[column]] == 0
            dense[block, lists.coordinates[column]] = least + step * lists.codes[at]
        before = int(lists.column_ends[column])
    assert before == lists.entries[term + 1] - lists.entries[term]
    return dense


def blocks_of(lists: BlockedLists, term: int) -> list[np.ndarray]:
    ends = lists.ends[lists.blocks[term]:lists.blocks[term + 1]]
    run = lists.postings[lists.lists[term]:lists.lists[term + 1]]
    return np.split(run, ends[:-1]) if len(ends) else []


def dense_of(rows: Rows) -> np.ndarray:
    dense = np.zeros((rows.count, rows.vocabulary))
    dense[np.repeat(np.arange(rows.count), np.diff(rows.starts)), rows.terms] = rows.weights
    return dense


@pytest.mark.parametrize("rounding", ["nearest", "up"])
def test_summaries_hold_the_heaviest_of_each_block(rounding: str) -> None:
    rows = collection(2, 300, 50, 25)
    config = dataclasses.replace(EXACT, summary_energy=0.5, rounding=rounding)
    lists, dense = build(rows, config), dense_of(rows)
    for term in range(rows.vocabulary):
        for members, stands in zip(blocks_of(lists, term), summary(lists, term), strict=True):
            most = dense[members].max(0)
            order = np.argsort(-most, kind="stable")
            mass = np.cumsum(most[order])
            kept = order[:int(np.searchsorted(mass, 0.5 * mass[-1] * (1 - 1e-9))) + 1]
            assert set(np.flatnonzero(stands).tolist()) == set(kept.tolist())
            step = (most[kept].max() - most[kept].min()) / 255
            above = stands[kept] - most[kept]
            slack = 1e-5 * most.max()
            assert (above <= step * (1.0 if rounding == "up" else 0.5) + slack).all()
            assert (above >= -(0.0 if rounding == "up" else 0.5) * step - slack * 0.1).all()


def test_a_summary_of_equal_values_has_no_step() -> None:
    lists = build(as_rows([{0: 0.5, 1: 0.5}, {0: 0.5}]), EXACT)
    assert (lists.scales[:, 1] == 0).all()
    assert (lists.codes == 0).all()
    assert np.isfinite(lists.scales).all()


def test_global_pruning_keeps_the_heaviest_of_the_matrix() -> None:
    rows = collection(4, 400, 30, 20)
    config = Seismic(n_postings=40, max_fraction=1.5, weights="float32")
    lists, dense = build(rows, config), dense_of(rows)
    least = np.sort(rows.weights)[::-1][30 * 40 - 1]
    for term in range(30):
        held = np.sort(lists.postings[lists.lists[term]:lists.lists[term + 1]])
        column = np.where(dense[:, term] >= least, dense[:, term], 0)
        expected = np.argsort(-column, kind="stable")[:60]
        assert held.tolist() == np.sort(expected[column[expected] > 0]).tolist()


def test_of_equal_weights_as_many_are_kept_as_asked() -> None:
    rows = as_rows([dict.fromkeys(range(5), 1.0) for _ in range(100)])
    assert build(rows, Seismic(n_postings=10, max_fraction=50)).lists[-1] == 50
    fixed = build(rows, Seismic(n_postings=10, pruning="fixed"))
    assert np.diff(fixed.lists).tolist() == [10] * 5
    assert sorted(fixed.postings[:10].tolist()) == list(range(10))


def test_blocks_share_out_each_list_and_small_ones_are_dissolved() -> None:
    rows = collection(6, 600, 30, 20)
    lists = build(rows, Seismic(pruning="none", centroid_fraction=0.2, min_cluster_size=3))
    dense = dense_of(rows)
    for term in range(30):
        found = blocks_of(lists, term)
        together = np.sort(np.concatenate(found))
        assert together.tolist() == np.flatnonzero(dense[:, term]).tolist()
        assert len(found) == 1 or min(map(len, found)) > 3
        assert len(found) <= max(1, int(0.2 * len(together)))


def test_documents_go_to_the_nearest_centroid() -> None:
    """Two kinds of documents that share a single term never meet in a block."""
    rows = as_rows([{0: 0.1, 1 + i % 2: 5.0} for i in range(200)])
    lists = build(rows, Seismic(centroid_fraction=0.1))
    for members in blocks_of(lists, 0):
        assert len(set((members % 2).tolist())) == 1


def test_the_same_every_time_and_on_any_number_of_threads() -> None:
    rows, queries = planted(3, 1500, 30)
    config = Seismic(n_postings=60, centroid_fraction=0.2)
    one, other = build(rows, config), build(rows, config, threads=3)
    for name, array in one.arrays().items():
        np.testing.assert_array_equal(array, other.arrays()[name])
    seeded = build(rows, dataclasses.replace(config, seed=1))
    assert (seeded.postings != one.postings).any()
    searcher = SeismicSearcher(neighbours(one, 5))
    found, again = (searcher.search(queries, 10, knn=3, threads=t) for t in (1, 3))
    np.testing.assert_array_equal(found.documents, again.documents)
    np.testing.assert_array_equal(found.scored, again.scored)


def test_quantised_and_pruned_answers_are_near_the_truth(isa) -> None:
    rows, queries = planted(5, 2000, 60)
    truth, _ = search_reference(rows, queries, 10)

    def recall(config: Seismic, **knobs: float) -> float:
        found = SeismicSearcher(build(rows, config)).search(queries, 10, **knobs)
        return float(np.mean([np.isin(truth[q], found.documents[q]).mean() for q in range(60)]))

    whole = Seismic(pruning="none", summary_energy=1.0, centroid_fraction=0.02)
    assert recall(whole, query_cut=0, heap_factor=1.0) >= 0.99
    pruned = Seismic(n_postings=30, centroid_fraction=0.2, max_fraction=6.0)
    recalls = [recall(pruned, query_cut=cut, heap_factor=h) for cut, h in ((2, 1.0), (20, 0.7))]
    assert recalls[1] > 0.95
    assert recalls[0] < recalls[1]


def test_neighbours_are_the_most_alike_and_raise_recall() -> None:
    rows, queries = planted(7, 2000, 50)
    lists = neighbours(build(rows, Seismic(n_postings=50, centroid_fraction=0.2)), 8)
    sample = np.arange(0, 2000, 50)
    own = as_rows([dict(zip(*(x.tolist() for x in rows.row(int(d))), strict=True))
                   for d in sample], rows.vocabulary)
    truth, _ = search_reference(rows, own, 9)
    near = [np.isin(lists.neighbours[d], t).mean() for d, t in zip(sample, truth, strict=True)]
    assert np.mean(near) > 0.8
    assert not (lists.neighbours == np.arange(2000)[:, None]).any()
    searcher, (best, _) = SeismicSearcher(lists), search_reference(rows, queries, 10)
    recalls = [np.mean([np.isin(t, f).mean() for t, f in zip(
        best, searcher.search(queries, 10, query_cut=2, heap_factor=1.0, knn=n).documents,
        strict=True)]) for n in (0, 8)]
    assert recalls[1] > recalls[0]


def test_lonely_documents_have_no_neighbours() -> None:
    lists = neighbours(build(as_rows([{0: 1.0}, {1: 1.0}, {1: 2.0}, {}])), 3)
    nobody = 0xFFFFFFFF
    assert lists.neighbours.tolist() == [[nobody] * 3, [2, nobody, nobody], [1, nobody, nobody],
                                         [nobody] * 3]
    found = SeismicSearcher(lists).search(as_rows([{1: 1.0}]), 3, knn=3)
    assert found.documents.tolist() == [[2, 1, -1]]


def test_only_those_alive_are_found() -> None:
    rows, queries = planted(8, 500, 10, 2000)
    kept = np.random.default_rng(0).random(512) < 0.5
    alive = np.packbits(kept, bitorder="little").view(np.uint64)
    found = SeismicSearcher(build(rows, EXACT), alive).search(queries, 5, query_cut=0,
                                                              heap_factor=1.0)
    there = np.flatnonzero(kept[:500])
    row_of = [dict(zip(*(x.tolist() for x in rows.row(d)), strict=True)) if d in set(there) else {}
              for d in range(500)]
    _, scores = search_reference(as_rows(row_of, rows.vocabulary), queries, 5)
    np.testing.assert_allclose(found.scores, scores, rtol=1e-5)


def test_explained_costs_add_up() -> None:
    rows, queries = planted(9, 3000, 5)
    searcher = SeismicSearcher(neighbours(build(rows, Seismic(n_postings=60)), 4))
    one = queries.take(2, 3)
    found = searcher.search(one, 10, query_cut=4, knn=2)
    visits = searcher.explain(one, 10, query_cut=4, knn=2)
    assert len(visits) == 5
    assert visits[-1].term == -1
    terms, weights = one.row(0)
    assert [v.term for v in visits[:4]] == terms[np.argsort(-weights)][:4].tolist()
    assert sum(v.scored for v in visits) == found.scored[0]
    assert sum(v.entries for v in visits) == found.postings[0]
    assert all(v.opened <= v.blocks and v.scored <= v.postings for v in visits)


def test_a_smaller_heap_factor_scores_more_documents() -> None:
    rows, queries = planted(10, 3000, 40)
    searcher = SeismicSearcher(build(rows, Seismic(n_postings=100)))
    scored = [searcher.search(queries, 10, heap_factor=h).scored.sum() for h in (0.5, 0.8, 1.2)]
    assert scored[0] > scored[1] > scored[2]


def test_empty_and_foreign() -> None:
    searcher = SeismicSearcher(build(as_rows([], 5)))
    assert searcher.search(as_rows([{1: 1.0}]), 3).documents.tolist() == [[-1]]
    searcher = SeismicSearcher(build(as_rows([{0: 1.0}, {}])))
    found = searcher.search(as_rows([{9: 1.0}, {}]), 3)
    assert found.documents.tolist() == [[-1, -1], [-1, -1]]
    assert not found.scores.any()
    assert searcher.search(as_rows([], 5), 3).documents.shape == (0, 2)


def test_bad_input() -> None:
    rows = as_rows([{0: 1.0}, {0: 2.0}])
    searcher = SeismicSearcher(build(rows))
    with pytest.raises(ConfigError, match="k is 0"):
        searcher.search(rows, 0)
    with pytest.raises(ConfigError, match="query_cut is -1"):
        searcher.search(rows, 1, query_cut=-1)
    with pytest.raises(ConfigError, match="heap_factor is nan"):
        searcher.search(rows, 1, heap_factor=float("nan"))
    with pytest.raises(ConfigError, match="hold 0 neighbours"):
        searcher.search(rows, 1, knn=2)
    with pytest.raises(ConfigError, match="One query"):
        searcher.explain(rows, 1)
    with pytest.raises(ConfigError, match="m is 0"):
        neighbours(searcher.lists, 0)
    with pytest.raises(ConfigError, match="threads is 0"):
        build(rows, threads=0)
    with pytest.raises(ConfigError, match="uint64"):
        SeismicSearcher(searcher.lists, np.zeros(2, np.uint64))
    with pytest.raises(DataError, match="too large for float16"):
        build(as_rows([{0: 1e6}]))
    for bad in ({"summary_energy": 0.0}, {"centroid_fraction": 1.5}, {"pruning": "most"},
                {"n_postings": 0}, {"seed": -1}):
        with pytest.raises(ConfigError):
            Seismic(**bad)


def test_too_many_blocks_are_refused() -> None:
    count = 66_000
    rows = as_rows((np.arange(count + 1), np.zeros(count, np.int64), np.ones(count)), 1)
    with pytest.raises(ConfigError, match="65535 fit"):
        build(rows, Seismic(pruning="none", centroid_fraction=1.0))
