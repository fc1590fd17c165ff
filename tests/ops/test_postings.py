"""Search by impact against all inner products in float64."""

from __future__ import annotations

import dataclasses
import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gossamer import native
from gossamer.core import ConfigError, DataError, StoreError
from gossamer.layout.rows import Rows, as_rows
from gossamer.ops.postings import Searcher, Segment, build, search_reference

pytestmark = pytest.mark.skipif(native.core is None, reason="the native module is not built")


def random_rows(seed: int, count: int, vocabulary: int, mean: float, flat: bool = False) -> Rows:
    rng = np.random.default_rng(seed)
    popular = 1.0 / np.arange(1, vocabulary + 1)
    rows = []
    for length in np.minimum(rng.poisson(mean, count), vocabulary):
        terms = rng.choice(vocabulary, length, replace=False, p=popular / popular.sum())
        weights = np.ones(length) if flat else rng.lognormal(size=length)
        rows.append(dict(zip(terms.tolist(), weights.tolist(), strict=True)))
    return as_rows(rows, vocabulary)


def same(found, wanted, tolerance: float = 2e-5) -> None:
    """Equal scores in order; documents may differ only where scores tie within rounding."""
    ids, scores = wanted
    assert found.documents.shape == ids.shape
    np.testing.assert_allclose(found.scores, scores, rtol=tolerance, atol=1e-6)
    for q in range(len(ids)):
        for place in np.flatnonzero(found.documents[q] != ids[q]):
            near = np.isclose(scores[q], scores[q, place], rtol=tolerance, atol=1e-6)
            assert near.sum() > 1 or place == ids.shape[1] - 1


@settings(max_examples=60, deadline=None)
@given(
    st.integers(0, 10**6), st.integers(0, 700), st.integers(1, 90), st.floats(0, 30),
    st.integers(1, 40), st.booleans(), st.sampled_from(["float16", "float32"]),
)
def test_exact_search_is_a_scan(seed, count, vocabulary, mean, k, flat, weights):
    documents = random_rows(seed, count, vocabulary, mean, flat)
    queries = random_rows(seed + 1, 7, vocabulary, 6.0, flat)
    segment = build(documents, weights=weights)
    found = Searcher([segment]).search(queries, k, exact=True)
    same(found, search_reference(segment.rows(), queries, min(k, max(1, count))))


@pytest.mark.parametrize("isa", native.isas())
@pytest.mark.parametrize("vocabulary", [300, 70_000])
def test_every_instruction_set_and_width_finds_the_same(isa, vocabulary):
    documents = random_rows(3, 4000, 300, 20.0)
    documents = dataclasses.replace(
        documents, vocabulary=vocabulary,
        terms=documents.terms.astype(np.uint16 if vocabulary <= 1 << 16 else np.uint32),
    )
    queries = random_rows(4, 30, 300, 9.0)
    before = native.isa()
    native.set_isa(isa)
    try:
        searcher = Searcher([build(documents, weights="float32")])
        same(searcher.search(queries, 10, exact=True), search_reference(documents, queries, 10))
        some = searcher.search(queries, 10, budget=10**6, candidates=200)
        same(some, search_reference(documents, queries, 10))
    finally:
        native.set_isa(before)


def test_segments_together_are_one_index():
    documents, queries = random_rows(5, 3000, 200, 15.0), random_rows(6, 40, 200, 8.0)
    cuts = [0, 1, 700, 700, 2999, 3000]
    segments = [
        build(documents.take(a, b), weights="float32") for a, b in itertools.pairwise(cuts)
    ]
    wanted = search_reference(documents, queries, 12)
    searcher = Searcher(segments)
    same(searcher.search(queries, 12, exact=True), wanted)
    same(searcher.search(queries, 12, budget=10**6, candidates=300), wanted)


def test_threads_change_nothing():
    documents, queries = random_rows(7, 2000, 200, 15.0), random_rows(8, 64, 200, 8.0)
    searcher = Searcher([build(documents, threads=2)])
    for knobs in ({"exact": True}, {"budget": 3000, "candidates": 20}):
        one, two = (searcher.search(queries, 5, threads=n, **knobs) for n in (1, 2))
        assert (one.documents == two.documents).all()
        assert (one.scores == two.scores).all()
        assert (one.postings == two.postings).all()


def bits_of(allowed: np.ndarray) -> np.ndarray:
    padded = np.zeros((len(allowed) + 63) // 64 * 64, np.uint8)
    padded[:len(allowed)] = allowed
    return np.packbits(padded, bitorder="little").view(np.uint64)


@pytest.mark.parametrize("share", [0.0, 0.01, 0.5, 1.0])
@pytest.mark.parametrize("way", ["alive", "allowed", "both"])
def test_only_documents_that_may_be_found_are_found(share, way):
    documents, queries = random_rows(9, 3000, 150, 15.0), random_rows(10, 20, 150, 8.0)
    rng = np.random.default_rng(1)
    alive = rng.random(3000) < (share if way != "allowed" else 1.0)
    allowed = rng.random(3000) < (share if way != "alive" else 1.0)
    searcher = Searcher([build(documents, weights="float32")], [bits_of(alive)])
    ids, _ = search_reference(documents, queries, 3000)
    for knobs in ({"exact": True}, {"budget": 10**6, "candidates": 3000}):
        found = searcher.search(queries, 10, allowed=[bits_of(allowed)], **knobs)
        for q in range(queries.count):
            kept = [i for i in ids[q].tolist() if i >= 0 and alive[i] and allowed[i]][:10]
            assert sorted(found.documents[q][:len(kept)].tolist()) == sorted(kept)
            assert (found.documents[q][len(kept):] == -1).all()


def test_a_budget_is_kept_and_more_of_it_finds_more():
    documents, queries = random_rows(11, 20_000, 2000, 40.0), random_rows(12, 50, 2000, 20.0)
    searcher = Searcher([build(documents, weights="float32")])
    truth, _ = search_reference(documents, queries, 10)
    recalls = []
    for budget in (200, 2000, 20_000):
        found = searcher.search(queries, 10, budget=budget, candidates=30)
        # Adding up again in larger units, where sums cannot be told apart, is counted too.
        assert np.median(found.postings) <= budget
        assert (found.postings <= 4 * budget).all()
        assert (found.scored <= 30).all()
        recalls.append(np.mean([
            len(set(a) & set(b)) / 10 for a, b in zip(found.documents.tolist(), truth.tolist())
        ]))
    assert recalls[0] < recalls[1] < recalls[2]
    assert recalls[2] > 0.95


def test_exact_search_leaves_most_postings_of_real_lists_alone():
    documents, queries = random_rows(13, 30_000, 3000, 60.0), random_rows(14, 30, 3000, 30.0)
    found = Searcher([build(documents)]).search(queries, 10, exact=True)
    lengths = np.bincount(documents.terms, minlength=3000)
    all_postings = sum(int(lengths[queries.row(q)[0]].sum()) for q in range(30))
    assert found.postings.sum() < 0.7 * all_postings
    assert found.scored.mean() < 0.1 * documents.count


def test_documents_and_queries_without_terms():
    empty = Searcher([build(as_rows([], 5))]).search(as_rows([[(1, 1.0)]]), 3, exact=True)
    assert empty.documents.tolist() == [[-1]]
    searcher = Searcher([build(as_rows([[], [(2, 1.0)]], 5))])
    for query in ([[]], [[(4, 1.0)]], [[(9, 1.0)]]):
        assert (searcher.search(as_rows(query), 2, exact=True).documents == -1).all()
        assert (searcher.search(as_rows(query), 2, budget=5).documents == -1).all()
    assert searcher.search(as_rows([[(2, 2.0)]]), 2, budget=5).documents.tolist() == [[1, -1]]


def test_weights_too_small_for_float16_still_match():
    rows = as_rows([[(0, 1e-12)], [(1, 1.0)]])
    found = Searcher([build(rows)]).search(as_rows([[(0, 1.0)]]), 2, exact=True)
    assert found.documents.tolist() == [[0, -1]]


def test_bad_input_is_refused():
    rows = as_rows([[(0, 1.0)]])
    with pytest.raises(ConfigError, match="int8"):
        build(rows, weights="int8")
    with pytest.raises(DataError, match="is too large for float16"):
        build(as_rows([[(0, 7e4)]]))
    searcher = Searcher([build(rows)])
    for bad in ({"k": 0}, {"threads": 0}, {"budget": 0}, {"candidates": -1}):
        name = next(iter(bad))
        with pytest.raises(ConfigError, match=name):
            searcher.search(rows, **{"k": 1, "budget": 1, **bad})
    with pytest.raises(ConfigError, match="uint64"):
        searcher.search(rows, 1, exact=True, allowed=[np.zeros(3, np.uint64)])


@pytest.mark.parametrize("name", ["postings", "heads", "starts", "terms", "weights"])
def test_stored_arrays_that_do_not_fit_are_refused(name):
    arrays = build(random_rows(15, 50, 30, 5.0)).arrays()
    assert Segment.of(arrays).documents == 50
    with pytest.raises(StoreError, match="lacks"):
        Segment.of({key: array for key, array in arrays.items() if key != name})
    with pytest.raises(StoreError, match="do not fit"):
        Segment.of({**arrays, name: arrays[name][:-1]})
    with pytest.raises(StoreError, match="do not fit"):
        Segment.of({**arrays, name: arrays[name].astype(arrays[name].dtype.newbyteorder())})


def test_heads_and_documents_out_of_range_are_refused():
    arrays = build(random_rows(16, 50, 30, 5.0)).arrays()
    for field, value in (("first", 10**9), ("length", 10**6), ("reach", 10**6), ("scale", np.nan)):
        heads = arrays["heads"].copy()
        heads[field][0] = value
        with pytest.raises(StoreError, match="do not fit"):
            Segment.of({**arrays, "heads": heads})
    for name, value in (("postings", 50 << 8), ("terms", 30)):
        changed = arrays[name].copy()
        changed[3] = value
        with pytest.raises(StoreError, match="do not fit"):
            Segment.of({**arrays, name: changed})
