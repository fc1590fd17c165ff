"""Exact engines: every answer is that of a scan in float64, ties and all; less work is done."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gossamer.core import ConfigError
from gossamer.layout.rows import Rows, as_rows
from gossamer.ops.documentwise import ENGINES, DocumentSearcher, document_lists
from gossamer.ops.postings import build, search_reference

SIZES = st.tuples(st.integers(1, 60), st.integers(1, 30), st.sampled_from([0, 1, 3]),
                  st.integers(1, 12))


def collection(seed: int, count: int, vocabulary: int, length: int, levels: int) -> Rows:
    """Rows of Zipfian terms; weights take so many values, 0: any."""
    rng = np.random.default_rng(seed)
    odds = 1 / np.arange(1, vocabulary + 1) ** 0.9
    lengths = rng.integers(0, min(length, vocabulary) + 1, count)
    keys = np.log(odds) + rng.gumbel(size=(count, vocabulary))
    terms = np.argsort(-keys, 1)
    kept = np.arange(vocabulary) < lengths[:, None]
    weights = rng.lognormal(size=int(lengths.sum()))
    if levels:
        weights = np.ceil(np.clip(weights, 0, 4) * levels / 4) / levels
    return as_rows((np.concatenate(([0], np.cumsum(lengths))), terms[kept], weights), vocabulary)


def as_bits(kept: np.ndarray) -> np.ndarray:
    padded = np.zeros((len(kept) + 63) // 64 * 64, bool)
    padded[:len(kept)] = kept
    return np.packbits(padded, bitorder="little").view(np.uint64)


def without(rows: Rows, kept: np.ndarray) -> Rows:
    """The same documents, with those emptied that are not kept."""
    row_of = np.repeat(np.arange(rows.count), np.diff(rows.starts))
    lengths = np.where(kept, np.diff(rows.starts), 0)
    return as_rows((np.concatenate(([0], np.cumsum(lengths))), rows.terms[kept[row_of]],
                    rows.weights[kept[row_of]]), rows.vocabulary)


def check(rows: Rows, queries: Rows, k: int, engine: str, parts: int = 1, gone: float = 0) -> None:
    edges = np.linspace(0, rows.count, parts + 1).astype(int)
    segments = [rows.take(a, b) for a, b in itertools.pairwise(edges)]
    kept = np.random.default_rng(0).random(rows.count) >= gone
    alive = [as_bits(kept[a:b]) for a, b in itertools.pairwise(edges)] if gone else None
    found = DocumentSearcher(segments, alive).search(queries, k, engine=engine)
    truth, scores = search_reference(without(rows, kept), queries, min(k, max(1, rows.count)))
    np.testing.assert_array_equal(found.documents, truth)
    np.testing.assert_array_equal(found.scores, scores.astype(np.float32))


@pytest.mark.parametrize("engine", ENGINES)
@settings(deadline=None, max_examples=40)
@given(seed=st.integers(0, 10**6), count=st.integers(0, 300), sizes=SIZES, k=st.integers(1, 400),
       parts=st.integers(1, 3), gone=st.sampled_from([0, 0.3, 0.99]))
def test_answers_are_those_of_a_scan(engine, seed, count, sizes, k, parts, gone) -> None:
    vocabulary, length, levels, terms = sizes
    rows = collection(seed, count, vocabulary, length, levels)
    queries = collection(seed + 1, 4, vocabulary + 3, terms, levels)
    check(rows, queries, k, engine, parts, gone)


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("levels", [0, 2])
@pytest.mark.parametrize("k", [1, 10, 60])
def test_many_windows_and_blocks(engine: str, levels: int, k: int) -> None:
    rows = collection(7, 9000, 80, 20, levels)
    check(rows, collection(8, 12, 80, 6, levels), k, engine)
    check(rows, collection(9, 3, 80, 40, levels), k, engine, parts=2, gone=0.5)


@pytest.mark.parametrize("engine", ENGINES)
def test_queries_of_one_term_and_of_none(engine: str) -> None:
    rows = collection(3, 5000, 40, 10, 3)
    check(rows, as_rows([{0: 1.0}, {39: 2.0}, {}, {45: 1.0}], 50), 20, engine)


@pytest.mark.parametrize("engine", ENGINES)
def test_tiny_and_huge_weights(engine: str) -> None:
    rows = as_rows([{0: 1e-45, 1: 3e38}, {0: 1e-45}, {1: 3e38}, {0: 1e-44}])
    found = DocumentSearcher([rows]).search(as_rows([{0: 1e-45}, {1: 0.5}]), 4, engine=engine)
    assert found.documents.tolist() == [[3, 0, 1, -1], [0, 2, -1, -1]]


def zipf_corpus(count: int, vocabulary: int, length: int) -> Rows:
    """Impacts of BM25's kind: counts that saturate, times the rarity of the word."""
    rng = np.random.default_rng(1)
    odds = np.cumsum(1 / np.arange(1, vocabulary + 1))
    terms = np.searchsorted(odds / odds[-1], rng.random((count, length)))
    words = np.arange(count)[:, None] * vocabulary + terms
    keys, counts = np.unique(words, return_counts=True)
    starts = np.searchsorted(keys, np.arange(count + 1) * vocabulary)
    rarity = np.log(count / np.maximum(1, np.bincount(keys % vocabulary, minlength=vocabulary)))
    weights = counts / (counts + 1.5) * rarity[keys % vocabulary]
    return as_rows((starts, keys % vocabulary, weights), vocabulary)


def test_few_documents_are_scored() -> None:
    rows = zipf_corpus(50_000, 5000, 60)
    rng = np.random.default_rng(2)
    queries = as_rows([dict.fromkeys(rng.choice(1000, 3, replace=False).tolist(), 1.0)
                       for _ in range(20)], 5000)
    searcher = DocumentSearcher([document_lists(rows)])
    union = searcher.search(queries, 10, engine="scan").scored.sum()
    scored = {e: searcher.search(queries, 10, engine=e).scored.sum() for e in ENGINES[1:]}
    most = {"maxscore": 0.6, "bmm": 0.6, "wand": 0.25, "bmw": 0.15}
    assert all(scored[e] <= share * union for e, share in most.items()), (union, scored)
    assert scored["bmw"] <= scored["wand"]


def test_threads_segments_and_bounds_of_the_user() -> None:
    rows = collection(4, 700, 30, 12, 0)
    queries = collection(5, 50, 30, 6, 0)
    one = DocumentSearcher([rows]).search(queries, 5)
    two = DocumentSearcher([build(rows, weights="float32")]).search(queries, 5, threads=2)
    np.testing.assert_array_equal(one.documents, two.documents)
    only = np.arange(700) % 3 == 0
    found = DocumentSearcher([rows]).search(queries, 5, allowed=[as_bits(only)], engine="bmw")
    np.testing.assert_array_equal(
        found.documents, search_reference(without(rows, only), queries, 5)[0])


@pytest.mark.parametrize(("arguments", "message"), [
    ({"engine": "wnad"}, "wand"), ({"k": 0}, "k is 0"), ({"threads": 0}, "threads"),
    ({"allowed": [np.zeros(1, np.uint64)]}, "2 uint64 words"),
])
def test_bad_input_in_one_sentence(arguments: dict, message: str) -> None:
    rows = collection(0, 100, 10, 5, 0)
    with pytest.raises(ConfigError, match=message):
        DocumentSearcher([rows]).search(rows, **{"k": 5, **arguments})
