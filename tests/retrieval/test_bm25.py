"""BM25: scores equal those of bm25s and of the formula; statistics, unknown words, bad input."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gossamer.core import ConfigError, DataError
from gossamer.layout.rows import Rows, as_rows
from gossamer.ops.postings import Searcher, build, search_reference
from gossamer.retrieval import BM25, Tokeniser

METHODS = ("robertson", "lucene", "atire", "bm25l", "bm25+")
WORDS = [f"w{i}" for i in range(30)]


def corpus(seed: int, count: int = 80) -> list[list[str]]:
    rng = np.random.default_rng(seed)
    odds = 1 / np.arange(1, len(WORDS) + 1)
    return [rng.choice(WORDS, rng.integers(0, 40), p=odds / odds.sum()).tolist()
            for _ in range(count)]


def products(documents: Rows, queries: Rows) -> np.ndarray:
    """Dense inner products, ``[queries, documents]``."""
    def dense(rows: Rows) -> np.ndarray:
        full = np.zeros((rows.count, documents.vocabulary))
        full[np.repeat(np.arange(rows.count), np.diff(rows.starts)), rows.terms] = rows.weights
        return full
    return dense(queries) @ dense(documents).T


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("seed", range(3))
def test_scores_equal_bm25s(method: str, seed: int) -> None:
    bm25s = pytest.importorskip("bm25s")
    documents = corpus(seed)
    known = {word: i for i, word in enumerate(WORDS)}
    theirs = bm25s.BM25(k1=1.2, b=0.6, delta=0.7, method=method)
    theirs.index(([[known[w] for w in d] for d in documents], known), show_progress=False)
    ours = BM25(k1=1.2, b=0.6, method=method, delta=0.7).fit(documents)
    asked = [["w1", "w7"], ["w0"], ["w3", "w9", "w20", "w28"]]
    queries = ours.queries(asked)
    scores = products(ours.rows, queries) + ours.shift(queries)[:, None]
    for words, mine in zip(asked, scores):
        np.testing.assert_allclose(mine, theirs.get_scores(words), rtol=1e-4, atol=1e-5)


def formula(method: str, tf: int, df: int, length: float, count: int) -> float:
    k1, b, delta = 1.5, 0.75, 0.5
    norm = 1 - b + b * length
    c = tf / norm
    idf = {
        "robertson": max(0.0, math.log((count - df + 0.5) / (df + 0.5))),
        "lucene": math.log(1 + (count - df + 0.5) / (df + 0.5)),
        "atire": math.log(count / df), "bm25l": math.log((count + 1) / (df + 0.5)),
        "bm25+": math.log((count + 1) / df),
    }[method]
    g = {
        "robertson": tf / (tf + k1 * norm), "lucene": tf / (tf + k1 * norm),
        "atire": (k1 + 1) * tf / (tf + k1 * norm),
        "bm25l": (k1 + 1) * (c + delta) / (k1 + c + delta),
        "bm25+": (k1 + 1) * tf / (tf + k1 * norm) + delta,
    }[method]
    return idf * g


@pytest.mark.parametrize("method", METHODS)
def test_a_word_by_the_formula(method: str) -> None:
    # "plate" twice in four words of mean length 3, in one of three documents.
    texts = ["plate plate flow past", "flow in", "shear shear flow"]
    fitted = BM25(method=method, shift=False).fit(texts)
    terms, weights = fitted.rows.row(0)
    found = dict(zip((fitted.words[t] for t in terms), weights))
    assert found["plate"] == pytest.approx(formula(method, 2, 1, 4 / 3, 3), rel=1e-6)
    shifted = BM25(method=method).fit(texts)
    query = shifted.queries(["plate flow"])
    whole = products(shifted.rows, query) + shifted.shift(query)
    expected = formula(method, 2, 1, 4 / 3, 3) + formula(method, 1, 3, 4 / 3, 3)
    assert whole[0, 0] == pytest.approx(expected, rel=1e-6)


def test_counts_texts_and_words_agree_and_search_is_a_scan() -> None:
    documents = corpus(5)
    fitted = BM25().fit(documents)
    assert fitted.words is not None
    of_text = BM25().fit([" ".join(d) for d in documents])
    ids = {word: i for i, word in enumerate(fitted.words)}
    counts = as_rows([{ids[w]: d.count(w) for w in set(d)} for d in documents], len(ids))
    of_counts = BM25().fit(counts)
    for other in (of_text, of_counts):
        np.testing.assert_array_equal(other.rows.weights, fitted.rows.weights)
        np.testing.assert_array_equal(other.rows.terms, fitted.rows.terms)
    queries = fitted.queries([["w2", "w5", "w2"], ["w29"], ["nowhere"]])
    assert queries.row(0)[1].tolist() in ([2, 1], [1, 2])
    found = Searcher([build(fitted.rows, weights="float32")]).search(queries, 10, exact=True)
    truth, scores = search_reference(fitted.rows, queries, 10)
    np.testing.assert_allclose(found.scores, scores, rtol=1e-5)
    assert (found.documents[2] == -1).all()
    assert (truth[2] == -1).all()


def test_later_documents_keep_the_statistics() -> None:
    documents = corpus(6)
    fitted = BM25().fit(documents)
    again = fitted.documents(documents[:7])
    np.testing.assert_array_equal(again.weights, fitted.rows.take(0, 7).weights)
    longer = fitted.documents([[*documents[1], "never", "seen"]])
    assert longer.count == 1
    assert longer.terms.tolist() == fitted.rows.row(1)[0].tolist()
    assert (longer.weights < fitted.rows.row(1)[1]).all()
    assert fitted.unknown([["w1", "never"]]) == [["never"]]


@settings(deadline=None, max_examples=30)
@given(st.lists(st.lists(st.sampled_from(WORDS[:6]), max_size=8), min_size=1, max_size=12),
       st.sampled_from(METHODS), st.floats(0, 3), st.floats(0, 1))
def test_impacts_are_fit_to_search(documents: list, method: str, k1: float, b: float) -> None:
    if not any(documents):
        with pytest.raises(DataError, match="at least one document"):
            BM25(k1, b, method).fit(documents)
        return
    rows = BM25(k1, b, method).fit(documents).rows
    assert np.isfinite(rows.weights).all()
    assert (rows.weights > 0).all()
    assert rows.count == len(documents)


def test_words() -> None:
    assert Tokeniser().words("A Boundary-layer's x, B52 é ÉTÉ") == [
        "boundary", "layer", "b52", "été"]
    pytest.importorskip("Stemmer")
    assert Tokeniser(stem="english", stop=frozenset({"the"})).words("The waves, waving") == [
        "wave", "wave"]
    with pytest.raises(ConfigError, match="english"):
        Tokeniser(stem="englisch")


@pytest.mark.parametrize(("call", "message"), [
    (lambda: BM25(k1=-1), "k1"),
    (lambda: BM25(b=1.5), "b"),
    (lambda: BM25(method="bm26"), "bm25l"),
    (lambda: BM25().fit([]), "at least one document"),
    (lambda: BM25().fit("one text"), "list of texts"),
    (lambda: BM25().fit([3]), "words"),
    (lambda: BM25().fit([[1, 2]]), "words"),
    (lambda: BM25().fit(as_rows([{0: 0.5}])), "whole numbers"),
    (lambda: BM25().fit(as_rows([{0: 1}])).queries(["text"]), "counts"),
    (lambda: BM25().fit(["a flat plate"]).queries(as_rows([{9: 1}])), "do not fit"),
])
def test_bad_input_in_one_sentence(call, message: str) -> None:
    with pytest.raises((ConfigError, DataError), match=message):
        call()
