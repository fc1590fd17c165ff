"""Bad input is answered in one clear sentence, and changes nothing."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from gossamer.core import ConfigError, DataError, GossamerError, StoreError
from gossamer.retrieval.index import Batch, IndexConfig, SparseIndex

ROWS = [{0: 1.0, 2: 0.5}, {2: 2.0}]


def index(**fields: Any) -> SparseIndex:
    return SparseIndex.build(ROWS, ids=["a", "b"], config=IndexConfig(**fields))


@pytest.mark.parametrize(("fields", "says"), [
    ({"vocabulary": 0}, "at least 1"), ({"vocabulary": 2.5}, "of type int"),
    ({"weights": "half"}, "float16"), ({"segment_documents": 1 << 25}, "at most 16777216"),
    ({"pending_documents": 0}, "at least 1"), ({"merge_segments": 1}, "at least 2"),
    ({"merge_deleted": float("nan")}, "greater than 0"),
])
def test_settings(fields: dict[str, Any], says: str) -> None:
    with pytest.raises(ConfigError, match=says):
        IndexConfig(**fields)


@pytest.mark.parametrize(("arguments", "says"), [
    ({"rows": [{0: -1.0}]}, "not negative"), ({"rows": [{0: float("nan")}]}, "finite"),
    ({"rows": [[(1, 1.0), (1, 2.0)]]}, "twice"), ({"rows": [{99: 1.0}]}, "vocabulary of 10"),
    ({"rows": 7}, "Cannot read sparse rows"), ({"rows": [{0: 1e6}]}, "float16"),
    ({"rows": [{-1: 1.0}]}, "out of range"), ({"rows": ROWS, "ids": ["x"]}, "2 documents but 1"),
    ({"rows": ROWS, "ids": ["x", "x"]}, "twice"), ({"rows": ROWS, "ids": ["x", 1]}, "strings"),
    ({"rows": ROWS, "ids": [1, 2]}, "strings"), ({"rows": ROWS, "ids": "xy"}, "list"),
    ({"rows": ROWS, "ids": 5}, "list"), ({"rows": ROWS}, "give one for each"),
    ({"rows": ROWS, "ids": ["a", "z"]}, "'a' is there already"),
    ({"rows": ROWS, "ids": ["x", "\udc80"]}, "UTF-8"),
    ({"rows": ROWS, "ids": ["x", "y"], "payloads": ["t"]}, "2 documents but 1 payloads"),
    ({"rows": ROWS, "ids": ["x", "y"], "payloads": [{1, 2}, None]}, "Payload 0 .* JSON"),
    ({"rows": ROWS, "ids": ["x", "y"], "payloads": [float("nan"), None]}, "JSON"),
    ({"rows": ROWS, "ids": ["x", "y"], "payloads": "no"}, "Payloads are a list"),
])
def test_documents(arguments: dict[str, Any], says: str) -> None:
    made = index(vocabulary=10)
    with pytest.raises(DataError, match=says):
        made.add(**arguments)
    assert (len(made), made.ids()) == (2, ["a", "b"])
    if "strings" in says or "already" in says or says == "give one for each":
        return
    with pytest.raises(DataError, match=says):
        SparseIndex.build(**arguments, config=IndexConfig(vocabulary=10))


@pytest.mark.parametrize(("arguments", "says"), [
    ({"k": 0}, "k is 0"), ({"k": 2.5}, "integer"), ({"k": -3}, "at least 1"),
    ({"recall": 0}, "recall is 0"), ({"recall": 1.5}, "recall is 1.5"),
    ({"recall": float("nan")}, "recall is nan"), ({"recall": "high"}, "recall is 'high'"),
    ({"budget": 0}, "budget is 0"), ({"budget": 1.5}, "integer"),
    ({"candidates": -1}, "candidates is -1"), ({"threads": 0}, "threads is 0"),
    ({"engine": "wind"}, "Unknown engine"), ({"filter": 7}, "Ids are a list"),
    ({"filter": [1]}, "strings"), ({"queries": [{50: 1.0}]}, "vocabulary of 10"),
    ({"queries": "text"}, "Cannot read"), ({"queries": [{0: float("inf")}]}, "finite"),
])
def test_searches(arguments: dict[str, Any], says: str) -> None:
    with pytest.raises(GossamerError, match=says):
        index(vocabulary=10).search(**{"queries": ROWS, **arguments})


@pytest.mark.parametrize(("call", "says"), [
    (lambda i: i.update([{0: 1.0}], ["zz"]), "no document with the id 'zz'"),
    (lambda i: i.update([{0: 1.0}] * 2, ["a", "a"]), "twice"),
    (lambda i: i.update([{0: -1.0}], ["a"]), "not negative"),
    (lambda i: i.delete([1]), "strings"), (lambda i: i.delete("a"), "list"),
    (lambda i: i.explain({0: 1.0}, "zz"), "no document"),
    (lambda i: i.explain(ROWS, "a"), "One query"), (lambda i: i.explain([], "a"), "One query"),
    (lambda i: i.payload("zz"), "no document"), (lambda i: i.payload(3), "strings"),
    (lambda i: i.tune([], recall=0.9), "some queries"),
    (lambda i: i.tune(ROWS, recall=2.0), "recall is 2.0"), (lambda i: i.tune(ROWS, k=0), "k is 0"),
])
def test_the_rest(call: Callable[[SparseIndex], Any], says: str) -> None:
    made = index()
    with pytest.raises(GossamerError, match=says):
        call(made)
    assert made.search(ROWS, exact=True).ids == [["a", "b"], ["b", "a"]]


def test_folders(tmp_path: Path) -> None:
    for missing in (tmp_path / "no", tmp_path):
        with pytest.raises(StoreError, match="is not an index"):
            SparseIndex.load(missing)
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "file").write_text("mine")
    with pytest.raises(StoreError, match="already holds"):
        SparseIndex.build(ROWS, folder=tmp_path / "other")
    with pytest.raises(StoreError, match="already holds"):
        index().save(tmp_path / "other")
    with SparseIndex.build(ROWS, folder=tmp_path / "index"), pytest.raises(
            StoreError, match="already holds an index"):
        SparseIndex.build(ROWS, folder=tmp_path / "index")
    with pytest.raises(DataError):
        SparseIndex.build([{0: -1.0}], folder=tmp_path / "never")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["index", "other"]


def test_a_closed_index_says_so(tmp_path: Path) -> None:
    made = SparseIndex.build(ROWS, folder=tmp_path / "index")
    made.close()
    made.close()
    for change in (lambda: made.add(ROWS), lambda: made.delete([0]), made.merge,
                   lambda: made.payload(0)):
        with pytest.raises(StoreError, match="closed"):
            change()


def test_a_giant_vocabulary_has_to_be_asked_for() -> None:
    with pytest.raises(DataError, match="vocabulary of 2000000001 terms"):
        SparseIndex.build([{2_000_000_000: 1.0}])
    large = SparseIndex.build([{1_100_000: 1.0}], config=IndexConfig(vocabulary=1_200_000))
    assert large.search([{1_100_000: 1.0}]).ids == [[0]]


def test_streams_carry_their_ids() -> None:
    with pytest.raises(DataError, match="Batch"):
        SparseIndex.build(iter([ROWS]), ids=["a", "b"])
    with pytest.raises(DataError, match="strings"):
        SparseIndex.build(iter([Batch(ROWS, ["a", "b"]), Batch(ROWS, [1, 2])]))
    with pytest.raises(DataError, match="twice"):
        SparseIndex.build(iter([Batch(ROWS, ["a", "b"]), Batch(ROWS, ["b", "c"])]))
