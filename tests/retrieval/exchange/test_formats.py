"""Documents go out and come back as they were, in every format."""

from __future__ import annotations

import contextlib
import json
import tempfile
import uuid
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import scipy.sparse
from hypothesis import given, settings
from hypothesis import strategies as st

from gossamer.core import ConfigError, DataError, GossamerError, StoreError
from gossamer.layout.rows import as_rows
from gossamer.retrieval.exchange import (
    FORMATS,
    Batch,
    Lexicon,
    Numbers,
    Options,
    guess,
    read_documents,
    write_documents,
)

TOKENS = ["plate", "flow", "##ing", "Änderung", "a.b", '"', "wing", "7"]
vectors = st.dictionaries(
    st.integers(0, len(TOKENS) - 1),
    st.floats(0.0625, 500, width=32), max_size=6)
payloads = st.one_of(
    st.none(), st.text(), st.lists(st.integers()), st.dictionaries(
        st.sampled_from(["title", "payload", "contents", "year"]), st.text(min_size=1)))
identifiers = st.one_of(
    st.lists(st.integers(0, 2**62), unique=True, max_size=12),
    st.lists(st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"),
                     min_size=1), unique=True, max_size=12))


@st.composite
def collections(draw: st.DrawFn) -> tuple[list[Any], list[dict[int, float]], list[Any]]:
    ids = draw(identifiers)
    return (ids, [draw(vectors) for _ in ids], [draw(payloads) for _ in ids])


def batches(ids: list[Any], rows: list[dict[int, float]], payloads: list[Any], size: int = 5):
    for at in range(0, len(ids), size):
        run = slice(at, at + size)
        yield Batch(ids[run], as_rows(rows[run], len(TOKENS)), payloads[run])


def read_all(path: Path, name: str, **given: Any) -> tuple[list[Any], list[dict], list[Any]]:
    ids, rows, payloads = [], [], []
    for batch in read_documents(path, name, **given):
        ids += batch.ids
        for i in range(batch.rows.count):
            terms, weights = batch.rows.row(i)
            rows.append(dict(zip(terms.tolist(), weights.tolist())))
        payloads += batch.payloads or [None] * len(batch.ids)
    return ids, rows, payloads


def lexicon(name: str) -> Lexicon | Numbers:
    return Lexicon(TOKENS) if FORMATS[name].named else Numbers()


@pytest.mark.parametrize("name", FORMATS)
@settings(max_examples=40, deadline=None)
@given(collection=collections(), size=st.integers(1, 7))
def test_what_is_written_is_read(name: str, collection: Any, size: int) -> None:
    ids, rows, payloads = collection
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "documents"
        terms = lexicon(name)
        assert write_documents(path, batches(*collection), name, terms) == len(ids)
        whole = name in ("anserini", "ciff")
        options = Options(batch=size, scale=100.0) if whole else Options(batch=size)
        seen_ids, seen, seen_payloads = read_all(path, name, terms=terms, options=options)
    digits = name == "ciff" and all(str(id).isascii() and str(id).isdigit() for id in ids)
    assert [str(id) for id in seen_ids] == [str(id) for id in ids]
    assert seen_ids == ids or (digits and seen_ids == [int(id) for id in ids])
    for before, after in zip(rows, seen, strict=True):
        assert before.keys() == after.keys()
        for term, weight in before.items():
            assert after[term] == pytest.approx(weight, abs=0.00501, rel=1e-6) if whole else (
                after[term] == weight)
    if name in ("vectors", "opensearch", "qdrant"):
        assert seen_payloads == payloads


@pytest.mark.parametrize("name", FORMATS)
def test_an_empty_collection(name: str, tmp_path: Path) -> None:
    path = tmp_path / "none"
    assert write_documents(path, iter(()), name, lexicon(name)) == 0
    assert read_all(path, name, terms=lexicon(name)) == ([], [], [])


@pytest.mark.parametrize(("name", "file"), [
    ("vectors", "x.jsonl"), ("opensearch", "x.json.gz"), ("qdrant", "x.jsonl"),
    ("anserini", "x.jsonl"), ("ciff", "x.ciff"), ("npz", "x.npz")])
def test_the_format_is_seen_from_the_file(name: str, file: str, tmp_path: Path) -> None:
    collection = (["a", "b"], [{0: 1.0, 3: 0.5}, {1: 2.0}], ["one", {"title": "two"}])
    write_documents(tmp_path / file, batches(*collection), name, lexicon(name))
    assert guess(tmp_path / file) == name
    assert read_all(tmp_path / file, "auto", terms=lexicon(name))[0] == ["a", "b"]


def test_requests_of_opensearch(tmp_path: Path) -> None:
    path = tmp_path / "bulk.json"
    write_documents(path, batches([7], [{1: 0.5}], [{"title": "t"}]), "opensearch", Lexicon(TOKENS))
    action, document = (json.loads(line) for line in path.read_text().splitlines())
    assert action == {"index": {"_id": 7}}
    assert document == {"title": "t", "passage_embedding": {"flow": 0.5}}


def test_points_of_qdrant(tmp_path: Path) -> None:
    path = tmp_path / "points.jsonl"
    known = str(uuid.uuid4())
    write_documents(path, batches([known, "doc 1"], [{1: 0.5}, {}], [None, None]), "qdrant")
    first, second = json.loads(path.read_text())["points"]
    assert first == {"id": known, "vector": {"sparse": {"indices": [1], "values": [0.5]}},
                     "payload": {}}
    assert uuid.UUID(second["id"])
    assert second["payload"] == {"gossamer_id": "doc 1"}
    path.write_text(json.dumps({"result": {"points": [first]}}) + "\n" + json.dumps(second))
    assert read_all(path, "qdrant")[0] == [known, "doc 1"]


def test_impacts_of_anserini_are_whole(tmp_path: Path) -> None:
    path = tmp_path / "impacts.jsonl"
    write_documents(path, batches(["d"], [{0: 1.234, 1: 0.0001}], ["text"]), "anserini",
                    Lexicon(TOKENS))
    assert json.loads(path.read_text()) == {
        "id": "d", "contents": "text", "vector": {"plate": 123, "flow": 1}}


def test_scipy_reads_and_writes_the_same_matrix(tmp_path: Path) -> None:
    matrix = scipy.sparse.random(20, 8, 0.3, "csr", np.float32, random_state=0)
    rows = as_rows(matrix)
    write_documents(tmp_path / "own.npz", [Batch([str(i) for i in range(20)], rows)], "npz")
    assert (scipy.sparse.load_npz(tmp_path / "own.npz") != matrix).nnz == 0
    scipy.sparse.save_npz(tmp_path / "theirs.npz", matrix)
    ids, seen, _ = read_all(tmp_path / "theirs.npz", "npz")
    assert ids == list(range(20))
    assert seen == [dict(zip(*(x.tolist() for x in rows.row(i)))) for i in range(20)]
    scipy.sparse.save_npz(tmp_path / "other.npz", matrix.tocsc())
    with pytest.raises(DataError, match=r"tocsr\(\)"):
        read_all(tmp_path / "other.npz", "npz")


def test_tokens_get_numbers_as_they_come(tmp_path: Path) -> None:
    path = tmp_path / "impacts.jsonl"
    path.write_text('{"id": 1, "vector": {"b": 2}}\n{"id": 2, "vector": {"a": 1, "b": 3}}\n')
    terms = Lexicon(grows=True)
    assert read_all(path, "anserini", terms=terms)[1] == [{0: 2.0}, {0: 3.0, 1: 1.0}]
    assert terms.tokens == ["b", "a"]
    with pytest.raises(DataError, match="'b' is not a number"):
        read_all(path, "anserini")
    with pytest.raises(DataError, match="'a' is not among the 1 known ones"):
        read_all(path, "anserini", terms=Lexicon(["b"]))


@pytest.mark.parametrize(("name", "line", "words"), [
    ("vectors", "{", "line 1 is not JSON"),
    ("vectors", "[1]", "is list, not an object"),
    ("vectors", '{"id": 1}', 'needs "id", "terms" and "weights"'),
    ("vectors", '{"terms": [], "weights": []}', "an id of None"),
    ("vectors", '{"id": true, "terms": [], "weights": []}', "an id of True"),
    ("vectors", '{"id": 1, "terms": [1], "weights": []}', "1 terms but 0 weights"),
    ("vectors", '{"id": 1, "terms": [1.5], "weights": [1]}', "no integer"),
    ("vectors", '{"id": 1, "terms": [[1]], "weights": [1]}', "no integer"),
    ("vectors", '{"id": 1, "terms": [-1], "weights": [1]}', "Term -1 is out of range"),
    ("vectors", '{"id": 1, "terms": [1], "weights": [-2]}', "a weight of -2"),
    ("vectors", '{"id": 1, "terms": [1], "weights": [NaN]}', "a weight of nan"),
    ("vectors", '{"id": 1, "terms": [1, 1], "weights": [2, 2]}', "term 1 twice"),
    ("vectors", '{"id": 1, "terms": [1], "weights": ["x"]}', "no number"),
    ("vectors", '{"id": 1, "terms": [1], "weights": [1]}\n{"id": "a", "terms": [], "weights": []}',
     "mixes integer and string ids"),
    ("anserini", '{"id": 1}', 'needs "id" and "vector"'),
    ("opensearch", '{"delete": {"_id": 1}}', "is no action index or create but 'delete'"),
    ("opensearch", '{"index": {"_id": 1}}', "needs 'passage_embedding'"),
    ("qdrant", '{"points": [1]}', "without indices and values"),
    ("qdrant", '{"points": 1}', 'no list of "points"'),
])
def test_what_is_not_of_the_format_is_said(
    name: str, line: str, words: str, tmp_path: Path,
) -> None:
    path = tmp_path / "bad.jsonl"
    path.write_text(line)
    with pytest.raises(DataError, match=words.replace("(", r"\(")):
        read_all(path, name)


def test_options_are_checked(tmp_path: Path) -> None:
    for bad in ({"batch": 0}, {"scale": 0.0}, {"scale": float("nan")}):
        with pytest.raises(ConfigError):
            Options(**bad)
    with pytest.raises(ConfigError, match="did you mean 'qdrant'"):
        read_documents(tmp_path / "x", "quadrant")
    with pytest.raises(ConfigError, match="npz has no scale"):
        read_documents(tmp_path / "x", "npz", options=Options(scale=2.0))
    with pytest.raises(StoreError, match="no file"):
        read_all(tmp_path / "x", "vectors")
    with pytest.raises(ConfigError, match="negative id"):
        write_documents(tmp_path / "x", batches([-1], [{}], [None]), "qdrant")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("name", FORMATS)
def test_damaged_files_are_refused_or_read(name: str, tmp_path: Path) -> None:
    collection = (["a", "b", "c"], [{0: 1.0, 3: 0.5}, {1: 2.0}, {5: 9.0}], [None, "x", "y"])
    path = tmp_path / "whole"
    write_documents(path, batches(*collection), name, lexicon(name))
    whole = path.read_bytes()
    chance = np.random.default_rng(0)
    for _ in range(150):
        data = bytearray(whole[:chance.integers(1, len(whole) + 1)])
        for _ in range(chance.integers(0, 4)):
            data[chance.integers(len(data))] = chance.integers(256)
        (tmp_path / "bad").write_bytes(data)
        with contextlib.suppress(GossamerError):  # nothing else may be raised
            read_all(tmp_path / "bad", name, terms=lexicon(name))
