"""Every route, with what it answers and what it refuses."""

from __future__ import annotations

import json
import random
import socket
import string
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from gossamer.core import ConfigError
from gossamer.layout.rows import as_rows
from gossamer.ops.postings import search_reference
from gossamer.retrieval import SparseIndex
from gossamer.retrieval.encoders import Names, WordEncoder, keep
from gossamer.retrieval.serve import Limits, create_app
from tests.retrieval.serve.live import TEXTS, Live, serving

pytest.importorskip("fastapi")
pytest.importorskip("uvicorn")

LIMITS = Limits(body=20_000, k=20, terms=50, text=200, queries=4, documents=6, read_seconds=0.6,
                work_seconds=5.0, threads=1)


def vectors(count: int = 60, seed: int = 0) -> list[dict[int, float]]:
    chance = np.random.default_rng(seed)
    return [{int(t): float(w) for t, w in zip(chance.choice(40, 8, replace=False),
                                              chance.integers(1, 64, 8) / 16)}
            for _ in range(count)]


def asked(vector: dict[int, float]) -> dict[str, float]:
    return {str(term): weight for term, weight in vector.items()}


@pytest.fixture(scope="module")
def live() -> Iterator[Live]:
    index = SparseIndex.build(vectors(), payloads=[f"number {i}" for i in range(60)])
    with serving(index, limits=LIMITS) as found:
        yield found


@pytest.fixture(scope="module")
def texts() -> Iterator[Live]:
    encoder, rows = WordEncoder.fit(TEXTS)
    index = SparseIndex.build(rows, ids=[f"d{i}" for i in range(len(TEXTS))], payloads=TEXTS)
    with serving(index, encoder, limits=LIMITS) as found:
        yield found


def test_hits_are_those_of_a_scan(live: Live) -> None:
    queries = vectors(4, seed=1)
    truth, scores = search_reference(as_rows(vectors(), 40), as_rows(queries, 40), 5)
    status, found = live.post("/search", {"queries": [asked(q) for q in queries], "k": 5,
                                          "exact": True})
    assert status == 200
    assert found["exact"]
    for q, result in enumerate(found["results"]):
        assert [hit["id"] for hit in result["hits"]] == truth[q].tolist()
        assert [hit["score"] for hit in result["hits"]] == pytest.approx(scores[q], rel=1e-5)
        assert [hit["payload"] for hit in result["hits"]] == [f"number {i}" for i in truth[q]]


def test_a_query_of_terms_and_weights(live: Live) -> None:
    query = vectors(1, seed=2)[0]
    _, by_name = live.post("/search", {"query": asked(query), "payload": False})
    _, by_list = live.post("/search", {
        "query": {"terms": list(query), "weights": list(query.values())}, "payload": False})
    assert by_name["hits"] == by_list["hits"]
    assert "payload" not in by_name["hits"][0]


def test_only_these_ids(live: Live) -> None:
    _, found = live.post("/search", {"query": {"1": 1, "2": 1, "3": 1}, "ids": [3, 5, 8], "k": 20})
    assert {hit["id"] for hit in found["hits"]} <= {3, 5, 8}


def test_text_and_what_its_terms_bring(texts: Live) -> None:
    status, found = texts.post("/search", {"query": "supersonic flow", "explain": True, "k": 2})
    assert status == 200
    best = found["hits"][0]
    assert (best["id"], best["payload"]) == ("d1", TEXTS[1])
    assert {term["term"] for term in best["terms"]} == {"supersonic", "flow"}
    assert sum(term["product"] for term in best["terms"]) == pytest.approx(best["score"], rel=1e-4)
    status, one = texts.post("/explain", {"query": "supersonic flow", "id": "d1"})
    assert one["terms"] == best["terms"]
    status, raw = texts.post("/search", {"query": {"flow": 1.0}})
    assert {hit["id"] for hit in raw["hits"]} == {"d1", "d2"}
    assert texts.post("/search", {"query": {"heron": 1.0}})[0] == 400
    assert texts.post("/search", {"queries": ["thin shell", {"flow": 2}]})[1]["results"][0][
        "hits"][0]["id"] == "d3"


def test_adding_changing_and_deleting() -> None:
    index = SparseIndex.build([{0: 1.0}], ids=["a"])
    with serving(index, limits=LIMITS) as live:
        status, found = live.post("/add", {"documents": [
            {"id": "b", "vector": {"1": 2.0}, "payload": {"title": "B"}},
            {"id": "c", "vector": {"terms": [1], "weights": [1.0]}}]})
        assert (status, found) == (200, {"ids": ["b", "c"]})
        status, found = live.post("/search", {"query": {"1": 1.0}})
        assert [(hit["id"], hit["payload"]) for hit in found["hits"]] == [
            ("b", {"title": "B"}), ("c", None)]
        assert live.post("/update", {"documents": [{"id": "c", "vector": {"1": 9}}]})[0] == 200
        assert live.post("/search", {"query": {"1": 1}})[1]["hits"][0]["id"] == "c"
        assert live.post("/delete", {"ids": ["b", "none"]}) == (200, {"deleted": 1})
        assert live.ask("GET", "/stats")[1]["documents"] == 2
        for path, body, words in (
            ("/add", {"documents": [{"id": "a", "vector": {"0": 1}}]}, "there already"),
            ("/add", {"documents": [{"vector": {"0": 1}}, {"id": "z", "vector": {}}]},
             "1 of 2 documents have no id"),
            ("/add", {"documents": [{"id": "z"}]}, 'needs a "vector" or a "text"'),
            ("/add", {"documents": [{"id": "z", "text": "t"}]}, "no encoder"),
            ("/update", {"documents": [{"id": "q", "vector": {}}]}, "no document with the id 'q'"),
            ("/update", {"documents": [{"vector": {}}]}, "give their ids"),
            ("/delete", {"ids": [1]}, "ids of this index are strings"),
        ):
            status, found = live.post(path, body)
            assert status == 400
            assert words in found["error"]["message"]


def test_a_reader_follows_the_writer(tmp_path: Path) -> None:
    folder = tmp_path / "index"
    with SparseIndex.build([{0: 1.0}], folder=folder) as writer:
        keep(Names(["plate", "flow"]), folder)
        with serving(SparseIndex.load(folder), limits=LIMITS) as live:
            assert live.post("/add", {"documents": []})[0] == 403
            assert live.post("/search", {"query": {"plate": 1}})[1]["hits"][0]["id"] == 0
            assert "nothing here reads text" in live.post("/search", {"query": "plate"})[1][
                "error"]["message"]
            writer.add([{1: 1.0}])
            deadline = time.monotonic() + 20
            while live.ask("GET", "/stats")[1]["documents"] != 2:
                assert time.monotonic() < deadline
                time.sleep(0.05)


@pytest.mark.parametrize(("body", "words"), [
    (b"{", "not JSON"),
    (b"\xff", "not JSON"),
    (b"[" * 9000, "not JSON"),
    ([], "a list, not an object"),
    ({}, 'Give either "query" or "queries"'),
    ({"query": {}, "queries": []}, "Give either"),
    ({"query": "text"}, "no encoder"),
    ({"query": 7}, "a text or a vector, not a number"),
    ({"query": {"plate": 1}}, "'plate' is not a number"),
    ({"query": {"1": "x"}}, "no finite number"),
    ({"query": {"1": True}}, "no finite number"),
    ({"query": {"1": -1}}, "a weight of -1"),
    ({"query": {"1": 1e300}}, "beyond 3e38"),
    ({"query": {str(2**40): 1}}, "out of range"),
    ({"query": {str(i): 1 for i in range(51)}}, "51 terms is too long"),
    ({"query": {"terms": [1, 1], "weights": [1, 1]}}, "term 1 twice"),
    ({"query": {"terms": [1.5], "weights": [1]}}, "no integer"),
    ({"query": {"terms": [1], "weights": []}}, "needs as many weights"),
    ({"query": {"1": 1}, "k": 0}, "k is 0; it must be from 1 to 20"),
    ({"query": {"1": 1}, "k": 21}, "k is 21"),
    ({"query": {"1": 1}, "k": 2.5}, "not a whole number"),
    ({"query": {"1": 1}, "recall": 2}, "recall is 2"),
    ({"query": {"1": 1}, "exact": 1}, "not true or false"),
    ({"query": {"1": 1}, "budget": 0}, "budget is 0"),
    ({"query": {"1": 1}, "ids": ["x"]}, "ids of this index are integers"),
    ({"query": {"1": 1}, "quary": 1}, "did you mean 'query'"),
    ({"queries": [{}] * 5}, "5 members; at most 4"),
])
def test_what_cannot_be_searched_is_said(live: Live, body: Any, words: str) -> None:
    status, found = live.post("/search", body)
    assert status == 400
    assert words in found["error"]["message"]
    assert found["error"]["message"][-1] in ".?"


def test_unknown_places_and_documents(live: Live) -> None:
    assert live.ask("GET", "/nothing")[1]["error"]["code"] == "not_found"
    assert live.ask("GET", "/search")[0] == 405
    assert live.post("/explain", {"query": {"1": 1}, "id": 999})[0] == 404
    assert live.post("/explain", {"query": {"1": 1}, "id": [1]})[0] in (400, 404)
    assert live.post("/explain", {"query": {"1": 1}})[0] == 400


def test_too_large_a_body(live: Live) -> None:
    status, found = live.post("/search", b"x" * 20_001)
    assert (status, found["error"]["code"]) == (413, "too_large")
    with socket.create_connection(("127.0.0.1", live.port), 5) as wire:  # length not said
        wire.sendall(b"POST /search HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n")
        try:
            for _ in range(30):
                wire.sendall(b"400\r\n" + b"x" * 1024 + b"\r\n")
        except OSError:
            pass
        assert b" 413 " in wire.recv(100)


def test_health_stats_and_metrics(live: Live) -> None:
    assert live.ask("GET", "/health")[1]["status"] == "ok"
    stats = live.ask("GET", "/stats")[1]
    assert (stats["documents"], stats["encoder"]) == (60, None)
    live.post("/search", {"query": {"1": 1}})
    status, text = live.ask("GET", "/metrics")
    assert status == 200
    values = dict(line.rsplit(" ", 1) for line in text.splitlines() if not line.startswith("#"))
    assert float(values["gossamer_index_documents"]) == 60
    searches = float(values['gossamer_requests_total{route="/search",status="200"}'])
    total = sum(float(v) for name, v in values.items()
                if name.startswith('gossamer_requests_total{route="/search"'))
    assert searches >= 1
    assert float(values['gossamer_request_seconds_bucket{route="/search",le="+Inf"}']) == total
    assert float(values['gossamer_request_seconds_count{route="/search"}']) == total


def test_the_key() -> None:
    index = SparseIndex.build([{0: 1.0}])
    with serving(index, key="s3cret", limits=LIMITS) as live:
        body = {"query": {"0": 1}}
        for given in ("", "Bearer", "Bearer wrong", "Basic s3cret", "s3cret", "Bearer s3cre\xff"):
            status, found = live.post("/search", body, Authorization=given)
            assert (status, found["error"]["code"]) == (401, "unauthorized")
        assert live.post("/search", body)[0] == 401
        for path in ("/stats", "/metrics"):
            assert live.ask("GET", path)[0] == 401
        assert live.post("/search", body, Authorization="Bearer s3cret")[0] == 200
        assert live.ask("GET", "/health")[0] == 200
        assert live.ask("GET", "/")[0] == 200
    for bad in ("", "  ", "sch\u00fcssel"):
        with pytest.raises(ConfigError, match="API key"):
            create_app(SparseIndex.build([{0: 1.0}]), key=bad)


@pytest.mark.parametrize("sent", [
    b"", b"POST /sea", b"POST /search HTTP/1.1\r\nHost: x\r\n",
    b"POST /search HTTP/1.1\r\nHost: x\r\nContent-Length: 100\r\n\r\n{"])
def test_slow_clients_are_let_go(live: Live, sent: bytes) -> None:
    with socket.create_connection(("127.0.0.1", live.port), 15) as wire:
        wire.sendall(sent)
        try:
            answer = wire.recv(1000)
        except ConnectionResetError:
            answer = b""
    assert answer == b"" or b" 408 " in answer
    assert live.ask("GET", "/health")[0] == 200


def test_too_many_at_once_are_told_so() -> None:
    index = SparseIndex.build([{0: 1.0}])
    limits = Limits(concurrent=1, threads=1)
    begun, gate = threading.Event(), threading.Event()

    class Slow(Names):
        def queries(self, texts: Any) -> Any:
            begun.set()
            gate.wait(10)
            return as_rows([{0: 1.0}] * len(texts))

    with serving(index, Slow(["t"]), limits=limits) as live:
        first: list[int] = []
        waiting = threading.Thread(
            target=lambda: first.append(live.post("/search", {"query": "wait"})[0]))
        waiting.start()
        assert begun.wait(10)
        found = live.post("/search", {"query": {"t": 1}})
        assert (found[0], found[1]["error"]["code"]) == (503, "busy")
        assert live.ask("GET", "/health")[0] == 200  # the loop is free all the while
        gate.set()
        waiting.join(10)
        assert first == [200]


def test_a_stop_answers_what_runs() -> None:
    index = SparseIndex.build([{0: 1.0}])

    class Slow(Names):
        def queries(self, texts: Any) -> Any:
            time.sleep(0.5)
            return as_rows([{0: 1.0}] * len(texts))

    with serving(index, Slow(["t"])) as live:
        answers: list[int] = []
        asking = threading.Thread(
            target=lambda: answers.append(live.post("/search", {"query": "wait"})[0]))
        asking.start()
        while not live.server.server_state.tasks:
            time.sleep(0.01)
    asking.join(10)
    assert answers == [200]


def test_fuzzed_requests_are_answered(live: Live) -> None:
    chance = random.Random(0)
    values: list[Any] = [None, True, -1, 0, 2**70, 1.5, "", "x" * 300, [], [1], {}, {"1": 1},
                         {"terms": [1], "weights": [None]}, {"terms": {}, "weights": 1},
                         "\ud800", {"\ud800": 1}, [{"1": 1}], [[["x"]]], {"1": {}}, {"1": None}]
    names = ["query", "queries", "k", "recall", "exact", "budget", "candidates", "ids", "explain",
             "payload", "documents", "id", "vector", "text", "zz"]
    for turn in range(300):
        path = chance.choice(["/search", "/explain", "/add", "/update", "/delete"])
        body: Any = {chance.choice(names): chance.choice(values)
                     for _ in range(chance.randint(0, 4))}
        if "documents" in body and chance.random() < 0.7:
            body["documents"] = [{chance.choice(names): chance.choice(values)
                                  for _ in range(chance.randint(0, 3))}]
        data = json.dumps(body).encode()
        if turn % 4 == 0:
            place = chance.randrange(len(data))
            data = data[:place] + chance.choice(string.printable).encode() + data[place + 1:]
        status, found = live.post(path, data)
        assert status in (200, 400, 404), (path, data, found)
    assert live.ask("GET", "/health")[0] == 200


def test_noise_on_the_wire(live: Live) -> None:
    chance = random.Random(1)
    for _ in range(20):
        with socket.create_connection(("127.0.0.1", live.port), 5) as wire:
            wire.sendall(chance.randbytes(chance.randint(1, 400)) + b"\r\n\r\n")
            wire.shutdown(socket.SHUT_WR)
            try:
                while wire.recv(1000):
                    pass
            except OSError:
                pass
    assert live.ask("GET", "/health")[0] == 200
