"""A cluster answers as one index does, also when workers are late or lost."""

from __future__ import annotations

import importlib.util
import threading
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from gossamer.core import ConfigError, DataError, StoreError
from gossamer.layout.rows import as_rows
from gossamer.ops.postings import search_reference
from gossamer.retrieval.cluster import ClusterIndex, OnRay, Threads
from gossamer.retrieval.cluster.routing import Answer, chosen, merged, routed, shard_of


def vectors(count: int, seed: int = 0) -> list[dict[int, float]]:
    chance = np.random.default_rng(seed)
    return [{int(t): float(w) for t, w in zip(chance.choice(50, 9, replace=False),
                                              chance.integers(1, 999, 9) / 64)}
            for _ in range(count)]


def truth(documents: list[dict[int, float]], queries: list[dict[int, float]], k: int) -> Any:
    return search_reference(as_rows(documents, 50), as_rows(queries, 50), k)


def test_shards_are_even_and_the_same_everywhere() -> None:
    assert shard_of("d7", 16) == 9
    assert shard_of(7, 16) == 7
    counts = Counter(shard_of(i, 8) for i in range(8000))
    assert min(counts.values()) > 850
    assert max(counts.values()) < 1150
    places = routed(list(range(100)), 3)
    assert sorted(np.concatenate(places).tolist()) == list(range(100))


def test_chosen_rows_are_those_rows() -> None:
    rows = as_rows(vectors(20), 50)
    some = chosen(rows, np.array([3, 0, 19]))
    for i, place in enumerate((3, 0, 19)):
        assert some.row(i)[0].tolist() == rows.row(place)[0].tolist()
        assert some.row(i)[1].tolist() == rows.row(place)[1].tolist()


def test_merging_keeps_the_best_of_all() -> None:
    first = Answer([["a", "b"], []], [[3.0, 1.0], []])
    second = Answer([["c"], ["d"]], [[3.0], [0.5]])
    found = merged([first, second], 2, 2)
    assert found.ids == [["a", "c"], ["d"]]
    assert found.scores == [[3.0, 3.0], [0.5]]
    assert merged([], 1, 5).ids == [[]]


@pytest.fixture(params=["threads", pytest.param("ray", marks=pytest.mark.slow)])
def workers(request: pytest.FixtureRequest) -> Any:
    if request.param == "threads":
        return Threads()
    if importlib.util.find_spec("ray") is None:
        pytest.skip('ray is not installed: pip install "gossamer[cluster]"')
    return OnRay(cpus=0.1)


def test_as_one_index(workers: Any, tmp_path: Path) -> None:
    documents, queries = vectors(120), vectors(5, 1)
    cluster = ClusterIndex.build(documents[:100], None, tmp_path / "c", workers, 2, replicas=1)
    try:
        cluster.add(documents[100:], range(100, 120), [f"text {i}" for i in range(100, 120)])
        ids, scores = truth(documents, queries, 7)
        for _ in range(2):  # writer and replica take turns
            hits = cluster.search(queries, 7, exact=True)
            assert hits.ids == ids.tolist()
            assert np.allclose(hits.scores, scores, rtol=1e-3)
            assert not hits.partial
        assert cluster.payload(103) == "text 103"
        assert cluster.payload(3) is None
        best = hits.ids[0][0]
        assert cluster.delete([best, 5000]) == 1
        assert len(cluster) == 119
        for _ in range(2):
            assert best not in cluster.search(queries, 7, exact=True).ids[0]
        with pytest.raises(DataError, match="there already"):
            cluster.add([{0: 1.0}], [0 if best != 0 else 1])
        # Lost: every worker of the second shard. The next search brings back what it needs.
        for worker in cluster._held[1]:
            workers.stop(worker)
        again = cluster.search(queries, 7, exact=True)
        assert not again.partial
        assert len(cluster) == 119
    finally:
        cluster.close()
    reopened = ClusterIndex(tmp_path / "c", workers)
    assert reopened.search(queries, 7, exact=True).ids == again.ids
    reopened.close()


class Late(Threads):
    """Workers whose searches of one shard wait."""

    def __init__(self, shard: str) -> None:
        self.shard, self.gate = shard, threading.Event()

    def ask(self, worker: Any, method: str, *given: Any) -> Any:
        if method == "search" and worker[1].index.folder.name == self.shard:
            worker[0].submit(self.gate.wait, 20)
        return super().ask(worker, method, *given)


def test_late_shards_are_left_out_and_named(tmp_path: Path) -> None:
    workers = Late("shard-0001")
    cluster = ClusterIndex.build(vectors(60), None, tmp_path / "c", workers, 3)
    hits = cluster.search(vectors(1, 1), 60, exact=True, seconds=0.3)
    assert hits.missing == (1,)
    assert hits.partial
    found = hits.ids[0]
    assert found
    assert all(shard_of(id, 3) != 1 for id in found)
    workers.gate.set()
    assert not cluster.search(vectors(1, 1), 60).partial
    cluster.close()


def test_what_is_wrong_is_said(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match="no index of a cluster"):
        ClusterIndex(tmp_path, Threads())
    with pytest.raises(ConfigError, match="shards is 0"):
        ClusterIndex.build([{0: 1.0}], None, tmp_path / "a", Threads(), 0)
    with pytest.raises(DataError, match="2 ids for 1 documents"):
        ClusterIndex.build([{0: 1.0}], [1, 2], tmp_path / "b", Threads())
    cluster = ClusterIndex.build([{0: 1.0}], None, tmp_path / "c", Threads())
    with pytest.raises(ConfigError, match="replicas is -1"):
        ClusterIndex(tmp_path / "c", Threads(), -1)
    with pytest.raises(ConfigError, match="k is 0"):
        cluster.search([{0: 1.0}], 0)
    cluster.close()
    (tmp_path / "c" / "cluster.json").write_text("{")
    with pytest.raises(StoreError, match="damaged"):
        ClusterIndex(tmp_path / "c", Threads())
