"""Searches, filters, knobs, payloads and explanations against references."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from gossamer.layout.rows import Rows, as_rows
from gossamer.ops.postings import search_reference
from gossamer.retrieval.index import Batch, IndexConfig, SparseIndex
from gossamer.retrieval.index.identifiers import Ids
from gossamer.retrieval.index.knobs import Knobs, Tuned, choose, narrowed, recall_of


def random_rows(seed: int, count: int, terms: int = 20, vocabulary: int = 400) -> Rows:
    """Rows with some frequent terms and weights of a long tail."""
    rng = np.random.default_rng(seed)
    popularity = 1 / np.arange(1, vocabulary + 1) ** 0.8
    rows = []
    for _ in range(count):
        chosen = rng.choice(vocabulary, terms, False, popularity / popularity.sum())
        rows.append(dict(zip(chosen.tolist(), rng.lognormal(0, 0.7, terms).tolist())))
    return as_rows(rows, vocabulary)


@pytest.fixture(scope="module")
def parts() -> SparseIndex:
    """3,000 documents in four segments and some that wait."""
    config = IndexConfig(weights="float32", pending_documents=600, background=False)
    index = SparseIndex.build(random_rows(1, 1200), config=config)
    rows = random_rows(2, 1800)
    for first in range(0, 1800, 300):
        index.add(rows.take(first, first + 300))
    index.add(random_rows(3, 50))
    return index


def all_rows(index: SparseIndex) -> Rows:
    snapshot = index._now()
    return as_rows([dict(zip(*(array.tolist() for array in part.row(row))))
                    for part in snapshot.parts for row in range(part.documents)], 400)


def test_exact_is_the_reference(parts: SparseIndex) -> None:
    queries = random_rows(9, 30, 8)
    ids, scores = search_reference(all_rows(parts), queries, 10)
    hits = parts.search(queries, k=10, exact=True)
    np.testing.assert_allclose(hits.scores, scores, rtol=1e-5)
    assert (hits.documents == ids).mean() > 0.99  # but for ties in float32
    assert hits.exact
    assert parts.search(queries, k=10, recall=1).exact
    assert hits.ids == hits.documents.tolist()  # numbered in order, nothing deleted


def test_approximate_answers_are_a_selection_of_true_scores(parts: SparseIndex) -> None:
    queries = random_rows(9, 30, 8)
    truth = parts.search(queries, k=10, exact=True)
    few = parts.search(queries, k=10, budget=300, candidates=10)
    many = parts.search(queries, k=10, recall=0.95)
    assert not few.exact
    assert recall_of(few.scores, truth.scores) <= recall_of(many.scores, truth.scores)
    assert recall_of(many.scores, truth.scores) > 0.9
    assert few.postings.mean() < truth.postings.mean()


def test_a_filter_is_a_search_of_those_documents(parts: SparseIndex) -> None:
    queries = random_rows(10, 10, 8)
    documents = all_rows(parts)
    for every in (2, 7, 50, 1000):
        allowed = list(range(0, documents.count, every))
        kept = as_rows([dict(zip(*(a.tolist() for a in documents.row(i)))) for i in allowed], 400)
        _, scores = search_reference(kept, queries, 5)
        prepared = parts.prepare(np.array(allowed))
        for hits in (parts.search(queries, k=5, exact=True, filter=allowed),
                     parts.search(queries, k=5, exact=True, filter=prepared)):
            np.testing.assert_allclose(hits.scores, scores, rtol=1e-5)
            assert all(one % every == 0 for ids in hits.ids for one in ids)
        some = parts.search(queries, k=5, recall=0.95, filter=prepared)
        assert recall_of(some.scores, scores.astype(np.float32)) > 0.8
    assert parts.search(queries, filter=[]).ids == [[]] * 10
    assert parts.search(queries, filter=[10**9, -5]).ids == [[]] * 10


def test_a_filter_on_payloads() -> None:
    index = SparseIndex.build([{0: float(i + 1)} for i in range(6)],
                              payloads=[{"year": 2000 + i} if i else None for i in range(6)])
    late = index.prepare(lambda payload: payload["year"] >= 2003)
    assert index.search([{0: 1.0}], filter=late).ids == [[5, 4, 3]]
    index.delete([4])
    assert index.search([{0: 1.0}], filter=late).ids == [[5, 3]]
    index.add([{0: 9.0}], payloads=[{"year": 2010}])
    found = index.search([{0: 1.0}], filter=lambda payload: payload["year"] >= 2005)
    assert found.ids == [[6, 5]]


def test_payloads_follow_their_documents(tmp_path: Path) -> None:
    values: list[Any] = ["text ä", {"a": [1, None]}, None, 3.5]
    with SparseIndex.build([{0: 1.0}] * 4, payloads=values, folder=tmp_path / "i") as index:
        assert [index.payload(i) for i in range(4)] == values
        index.update([{1: 1.0}] * 2, [0, 1])
        index.update([{1: 1.0}] * 2, [2, 3], ["new", None])
        index.merge()
        assert [index.payload(i) for i in range(4)] == ["text ä", {"a": [1, None]}, "new", None]
        index.delete([0])
        index.add([{0: 1.0}], [0])
        assert index.payload(0) is None
    with SparseIndex.load(tmp_path / "i") as loaded:
        assert [loaded.payload(i) for i in (2, 0)] == ["new", None]


def test_explanations_add_up(parts: SparseIndex) -> None:
    query = random_rows(11, 1, 12)
    hits = parts.search(query, k=5, exact=True)
    for one, found in zip(hits.ids[0], hits.scores[0]):
        told = parts.explain(query, one)
        assert told.score == pytest.approx(found, rel=1e-5)
        assert told.score == pytest.approx(sum(product for *_, product in told.terms))
        assert all(a * b == product for _, a, b, product in told.terms)
        products = [product for *_, product in told.terms]
        assert products == sorted(products, reverse=True)
    assert parts.explain({399: 0.5, 0: 0.0}, 3).score >= 0
    assert parts.explain([(0, 1.0), (1, 2.0)], 3) == parts.explain({0: 1.0, 1: 2.0}, 3)


def test_tuned_knobs_reach_their_recall_and_are_kept(tmp_path: Path) -> None:
    queries = random_rows(5, 60, 8)
    with SparseIndex.build(random_rows(4, 3000), folder=tmp_path / "i") as index:
        steps: list[tuple[int, int]] = []
        knobs = index.tune(queries, recall=0.93,
                           progress=lambda done, total, text: steps.append((done, total)))
        assert steps[-1][0] == steps[-1][1] == len(steps)
        truth = index.search(queries, exact=True)
        for recall in (0.8, 0.9, 0.93, 0.99):
            hits = index.search(queries, recall=recall)
            assert recall_of(hits.scores, truth.scores) >= recall
        direct = index.search(queries, budget=knobs.budget, candidates=knobs.candidates)
        np.testing.assert_array_equal(index.search(queries, recall=0.93).scores, direct.scores)
        reader = SparseIndex.load(tmp_path / "i")
        assert reader.stats()["tuned"]
        np.testing.assert_array_equal(
            reader.search(queries, recall=0.93).scores, direct.scores)
        reader.close()


def test_knobs_rise_with_recall_documents_and_k() -> None:
    for k in (10, 100):
        for documents in (10, 10**5, 10**6, 10**8):
            budgets = [choose(recall, k, documents, None).budget
                       for recall in (0.1, 0.5, 0.8, 0.9, 0.93, 0.95, 0.99, 0.999)]
            assert budgets == sorted(budgets)
    assert choose(0.9, 10, 10**7, None).budget > choose(0.9, 10, 10**6, None).budget
    assert choose(0.9, 100, 10**6, None).candidates >= 300
    tuned = Tuned(1000, 10, ((0.9, Knobs(500, 20)), (0.99, Knobs(0, 0, True))))
    assert choose(0.85, 10, 1000, tuned) == Knobs(500, 20)
    assert choose(0.95, 10, 1000, tuned).exact
    assert choose(0.999, 10, 1000, tuned).exact
    assert choose(0.9, 20, 4000, tuned).budget > 1000
    assert Tuned.from_json(tuned.to_json()) == tuned
    assert narrowed(Knobs(500, 20), 1, 100).exact
    assert narrowed(Knobs(500, 20), 50, 100) == Knobs(1000, 20)


def test_a_stream_is_what_one_piece_is(tmp_path: Path) -> None:
    rows = random_rows(6, 500)
    ids = [f"n{i * 7919 % 500}" for i in range(500)]

    def batches() -> Iterator[Batch]:
        for first in range(0, 500, 37):
            last = min(first + 37, 500)
            texts = [{"at": i} for i in range(first, last)] if first % 2 else None
            yield Batch(rows.take(first, last), ids[first:last], texts)

    seen: list[tuple[int, int]] = []
    config = IndexConfig(segment_documents=128, pending_documents=10)
    with SparseIndex.build(
            batches(), folder=tmp_path / "stream", config=config,
            progress=lambda done, total, text: seen.append((done, total))) as stream:
        whole = SparseIndex.build(rows, ids)
        queries = random_rows(7, 20, 8)
        one, two = (index.search(queries, exact=True) for index in (stream, whole))
        np.testing.assert_array_equal(one.scores, two.scores)
        assert one.ids == two.ids
        assert stream.stats()["segments"] == 4
        assert seen[-1] == (500, 500)
        assert stream.payload(ids[40]) == {"at": 40}
        assert stream.payload(ids[0]) is None
        assert sum(stream.bytes().values()) == stream.stats()["bytes"]


def test_vocabularies_grow_from_16_to_32_bits(tmp_path: Path) -> None:
    with SparseIndex.build([{65535: 2.0}], folder=tmp_path / "i") as index:
        index.add([{65536: 2.0, 3: 1.0}, {}])
        index.add([{200_000: 1.0}])
        for _ in range(2):
            query = [{65535: 1.0}, {65536: 1.0}, {200_000: 1.0, 3: 4.0}, {199_999: 1.0}]
            assert index.search(query, exact=True).ids == [[0], [1], [1, 3], []]
            assert index.search(query).ids == [[0], [1], [1, 3], []]
            index.merge()
        assert index.stats()["vocabulary"] == 200_001
        assert index.explain({3: 1.0}, 2).score == 0


def test_an_empty_index_finds_nothing(tmp_path: Path) -> None:
    with SparseIndex.build([], folder=tmp_path / "i") as index:
        assert len(index) == 0
        assert index.search([{0: 1.0}]).ids == [[]]
        assert index.search([]).ids == []
        assert index.delete([3]) == 0
        index.merge()
        assert index.add([]) == []
        assert index.add([{0: 1.0}]) == [0]
        assert index.delete([0]) == 1
        index.merge()
        assert index.search([{0: 1.0}]).ids == [[]]
        assert index.add([{0: 1.0}]) == [1]  # numbers are not used again
        assert 1 in index
        assert 0 not in index
        assert "1" not in index
    with SparseIndex.load(tmp_path / "i", mmap=False) as index:
        assert index.ids() == [1]


@pytest.mark.parametrize("name", ["int", "str"])
def test_identifiers_are_found_again(name: Any) -> None:
    rng = np.random.default_rng(0)
    numbers = rng.permutation(1000)[:300].tolist()
    names = [f"x{one}é" if name == "str" else one - 500 for one in numbers]
    ids = Ids.of(names, name)
    again = Ids.read(ids.arrays(), 300)
    assert again.take(np.arange(300)) == names
    from gossamer.retrieval.index.identifiers import keys_of
    wanted = [f"x{i}é" if name == "str" else i - 500 for i in range(1000)]
    place = {one: i for i, one in enumerate(names)}
    assert again.find(wanted, keys_of(wanted, name)).tolist() == [
        place.get(one, -1) for one in wanted]
    assert again.select(np.array([5, 2])).take(np.arange(2)) == [names[5], names[2]]


def test_strings_of_one_key_are_told_apart() -> None:
    ids = Ids.of(["a", "b", "c", "d"], "str")
    same = Ids("str", None, ids.text, ids.starts, np.zeros(4, np.int64), None)
    wanted = ["d", "x", "a", "c", "b"]
    assert same.find(wanted, np.zeros(5, np.int64)).tolist() == [3, -1, 0, 2, 1]
