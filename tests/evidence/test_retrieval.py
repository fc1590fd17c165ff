"""The evidence of the retrieval family fails where what it is about is broken."""

from __future__ import annotations

import json

import numpy as np
import pytest

from gossamer.core import DataError
from gossamer.evidence import judged
from gossamer.evidence.language import Verdicts
from gossamer.evidence.retrieval import bm25
from gossamer.evidence.retrieval import flops_sparse_embeddings as flops
from gossamer.retrieval import BM25


@pytest.fixture
def small(tmp_path):
    """A collection of three documents with two judged queries and one without an answer."""
    folder = tmp_path / "ir_npl"
    folder.mkdir()
    texts = ["flat plate flow", "shear flow", "waves in plates"]
    corpus = [json.dumps({"_id": f"d{i}", "title": "", "text": t}) for i, t in enumerate(texts)]
    (folder / "corpus.jsonl").write_text("\n".join(corpus))
    asked = [json.dumps({"_id": f"q{i}", "text": t})
             for i, t in enumerate(["flat flow", "waves", "nothing"])]
    (folder / "queries.jsonl").write_text("\n".join(asked))
    (folder / "qrels.tsv").write_text("query-id\tcorpus-id\tscore\nq0\td0\t1\nq1\td2\t1\nq1\td1\t0")
    return tmp_path


def test_variants_are_compared_with_the_formula(monkeypatch: pytest.MonkeyPatch) -> None:
    verdicts = Verdicts()
    assert set(bm25._variants(3, verdicts)) == set(bm25._METHODS)
    assert verdicts.holds
    monkeypatch.setattr(bm25, "BM25", lambda k1, b, *rest: BM25(k1, b / 2, *rest))
    verdicts = Verdicts()
    bm25._variants(3, verdicts)
    assert not verdicts.holds


def test_a_collection_is_read_and_ranked(small) -> None:
    (collection,) = judged.collections(small)
    assert collection.judgements == ({0: 1.0}, {2: 1.0, 1: 0.0})
    assert judged.collections(small / "ir_npl") == [collection]
    assert judged.collections(None) == []
    verdicts = Verdicts()
    assert bm25._collection(collection, verdicts)["gossamer"] == 1.0
    assert verdicts.holds
    (small / "ir_npl" / "qrels.tsv").write_text("query-id\tcorpus-id\tscore\nq0 d0 1\n")
    with pytest.raises(DataError, match="judgements"):
        judged.collections(small)


def test_products_are_those_of_the_theory(monkeypatch: pytest.MonkeyPatch) -> None:
    verdicts = Verdicts()
    flops._theory(0, verdicts)
    assert verdicts.holds
    drawn = flops._drawn
    monkeypatch.setattr(flops, "_drawn", lambda rng, p, n: drawn(rng, np.sqrt(p) / 4, n))
    verdicts = Verdicts()
    flops._theory(0, verdicts)
    assert not verdicts.holds
