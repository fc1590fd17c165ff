"""Search of learned sparse vectors against Seismic and an exact loop, at equal recall.

    python benchmarks/retrieval.py --documents 200000 --seismic 300 3500 --out FILE.json
    python benchmarks/retrieval.py --data FOLDER --seismic 1000 --out FILE.json

Vectors come from `gossamer.planted.TopicMixture`, or from docs.npz and queries.npz (scipy CSR) in a
folder. Contenders: our index over a grid of (budget, candidates) and exact; pyseismic-lsr with each
number of postings a list over a grid of (query_cut, heap_factor); a term-at-a-time loop compiled by
numba. Queries run one at a time on one thread; a query's latency is its least over the rounds, in
which all contenders take turns. Recall at 10 counts ties by score. pyseismic-lsr and numba take
part where they are installed; built Seismic indexes are kept beside the data: they take minutes.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import os
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

os.environ.setdefault("RAYON_NUM_THREADS", "1")
os.environ.setdefault("NUMBA_NUM_THREADS", "1")

import numpy as np

from gossamer.layout.rows import Rows, as_rows
from gossamer.measure import environment
from gossamer.ops.postings import Searcher, Segment, build
from gossamer.planted.splade import TopicMixture

K = 10
LEVELS = (0.90, 0.95, 0.97, 0.99)
# Shares of the collection that are added up, and documents scored.
BUDGETS = (0.02, 0.03, 0.04, 0.05, 0.065, 0.08, 0.1, 0.13, 0.18)
CANDIDATES = (20, 30, 40, 60)
CUTS, FACTORS = (2, 3, 4, 5, 6, 8, 12), (0.8, 0.9, 1.0)
Answer = Callable[[int], Any]


@dataclass
class Contender:
    """One way to answer, and what was seen of it."""

    name: str
    knobs: dict[str, Any]
    ask: Answer
    ids: Callable[[Any], list[int]]
    times: np.ndarray = field(default_factory=lambda: np.zeros(0))
    found: list[list[int]] = field(default_factory=list)


def collection(given: argparse.Namespace) -> tuple[Rows, Rows]:
    """Documents and queries."""
    if given.data is not None:
        from scipy import sparse

        documents = as_rows(sparse.load_npz(given.data / "docs.npz"))
        return documents, as_rows(sparse.load_npz(given.data / "queries.npz"), documents.vocabulary)
    mixture = TopicMixture(seed=given.seed)
    documents = as_rows(mixture.documents(0, given.documents), mixture.vocabulary)
    asked, _ = mixture.queries(given.queries, given.documents)
    return documents, as_rows(asked, mixture.vocabulary)


def ours(segment: Segment, queries: Rows, documents: int) -> list[Contender]:
    """Our index, exact and over a grid of knobs."""
    searcher = Searcher([segment])
    singles = [queries.take(i, i + 1) for i in range(queries.count)]
    grid: list[dict[str, Any]] = [{"exact": True}]
    grid += [{"budget": int(share * documents), "candidates": count}
             for share in BUDGETS for count in CANDIDATES]
    return [
        Contender("gossamer", knobs, lambda i, knobs=knobs: searcher.search(singles[i], K, **knobs),
                  lambda found: found.documents[0].tolist())
        for knobs in grid
    ]


def seismic(path: Path, given: argparse.Namespace, documents: Rows, queries: Rows,
            ) -> tuple[list[Contender], list[dict[str, Any]]]:
    """Seismic with each number of postings a list, over a grid of knobs."""
    import seismic as engine

    raw = path / "docs.bin"
    if not raw.exists():
        with open(raw, "wb") as file:
            file.write(np.uint32(documents.count).tobytes())
            for i in range(documents.count):
                terms, weights = documents.row(i)
                file.write(np.uint32(len(terms)).tobytes() + terms.astype("<u4").tobytes()
                           + weights.astype("<f4").tobytes())
    pairs = [queries.row(i) for i in range(queries.count)]
    asked = [(terms.astype(np.int32), weights) for terms, weights in pairs]
    contenders, builds = [], []
    for postings in given.seismic:
        kept = path / f"seismic_n_postings{postings}"
        times = path / f"seismic_n_postings{postings}.json"
        if not kept.exists():
            start, cpu = time.perf_counter(), time.process_time()
            index = engine.SeismicIndexRaw.build(str(raw), n_postings=postings)
            seconds = {"wall_s": time.perf_counter() - start, "cpu_s": time.process_time() - cpu}
            times.write_text(json.dumps(seconds))
            index.save(str(kept))
            del index
        index = engine.SeismicIndexRaw.load(str(kept))
        builds.append({"n_postings": postings, "bytes": kept.stat().st_size,
                       **(json.loads(times.read_text()) if times.exists() else {})})
        for cut in CUTS:
            for factor in FACTORS:
                def ask(i: int, index: Any = index, cut: int = cut, factor: float = factor) -> Any:
                    return index.search(*asked[i], K, cut, factor, 0, True)

                knobs = {"n_postings": postings, "query_cut": cut, "heap_factor": factor}
                contenders.append(
                    Contender("seismic", knobs, ask, lambda hits: [d for _, d in hits]))
    return contenders, builds


def loop(documents: Rows, queries: Rows) -> Contender:
    """A plain exact loop over the postings of each term, compiled by numba."""
    import numba
    from scipy import sparse

    shape = (documents.count, documents.vocabulary)
    matrix = sparse.csr_matrix((documents.weights, documents.terms.astype(np.int32),
                                documents.starts), shape=shape).tocsc()
    starts = matrix.indptr.astype(np.int64)

    @numba.njit(fastmath=True)
    def scan(starts, ids, data, terms, weights, total, k):  # type: ignore[no-untyped-def]
        total[:] = 0
        for j in range(len(terms)):
            for i in range(starts[terms[j]], starts[terms[j] + 1]):
                total[ids[i]] += weights[j] * data[i]
        best, places = np.full(k, np.float32(-1)), np.zeros(k, np.int64)
        for d in range(len(total)):
            if total[d] > best[k - 1]:
                j = k - 1
                while j > 0 and best[j - 1] < total[d]:
                    best[j], places[j] = best[j - 1], places[j - 1]
                    j -= 1
                best[j], places[j] = total[d], d
        return places

    total = np.zeros(documents.count, np.float32)
    rows = [queries.row(i) for i in range(queries.count)]
    return Contender(
        "numba loop", {}, lambda i: scan(starts, matrix.indices, matrix.data, *rows[i], total, K),
        lambda places: places.tolist())


def race(contenders: list[Contender], queries: int, rounds: int) -> None:
    """Times of every query with every contender, the least of the rounds."""
    for contender in contenders:
        contender.times = np.full(queries, np.inf)
        contender.ask(0)
    for turn in range(rounds):
        for contender in contenders:
            for i in range(queries):
                start = time.perf_counter()
                found = contender.ask(i)
                contender.times[i] = min(contender.times[i], time.perf_counter() - start)
                if turn == 0:
                    contender.found.append(contender.ids(found))


def recall(found: list[list[int]], documents: Rows, queries: Rows, floor: np.ndarray) -> float:
    """Share of the k places held by a document that scores no less than the exact k-th."""
    right = 0
    dense = np.zeros(documents.vocabulary, np.float32)
    for i, ids in enumerate(found):
        terms, weights = queries.row(i)
        dense[terms] = weights
        for d in ids[:K]:
            row_terms, row_weights = documents.row(d)
            right += bool(dense[row_terms] @ row_weights >= floor[i] * (1 - 1e-5))
        dense[terms] = 0
    return right / (K * len(found))


def summary(c: Contender, share: float) -> dict[str, Any]:
    """One line of the table."""
    us = c.times * 1e6
    mean, half, most = float(us.mean()), float(np.median(us)), float(np.percentile(us, 99))
    return {"name": c.name, **c.knobs, "recall": round(share, 4), "mean_us": round(mean, 1),
            "p50_us": round(half, 1), "p99_us": round(most, 1)}


def frontier(rows: list[dict[str, Any]], name: str) -> dict[str, dict[str, Any]]:
    """The quickest setting that reaches each recall; a level that none reaches is left out."""
    out = {}
    for level in LEVELS:
        able = [row for row in rows if row["name"] == name and row["recall"] >= level]
        if able:
            out[f"{level:.2f}"] = min(able, key=lambda row: row["mean_us"])
    return out


def throughput(segment: Segment, queries: Rows, knobs: dict[str, Any]) -> dict[str, float]:
    """Queries a second in one batch, by threads."""
    searcher, best = Searcher([segment]), {}
    for threads in range(1, (os.cpu_count() or 1) + 1):
        least = np.inf
        for _ in range(7):
            start = time.perf_counter()
            searcher.search(queries, K, threads=threads, **knobs)
            least = min(least, time.perf_counter() - start)
        best[str(threads)] = round(queries.count / least)
    return best


def ablation(segment: Segment, queries: Rows, knobs: dict[str, Any], truth: list[list[int]],
             ) -> list[dict[str, Any]]:
    """What a search costs where one part of the design is taken out."""
    whole = segment.heads.copy()
    whole["reach"] = whole["length"][:, None]
    whole["rest"] = 0
    lists = Segment.of({**segment.arrays(), "heads": whole})
    everything = {"budget": 1 << 40}
    cases = [
        ("exact: cut at corners, bounds", segment, {"exact": True}),
        ("exact: lists whole or not at all", lists, {"exact": True}),
        ("every posting, sums of 8 bits, 10 scored", segment, {**everything, "candidates": K}),
        ("every posting, then scored", segment, {**everything, "candidates": knobs["candidates"]}),
        ("budget, lists whole or not at all", lists, knobs),
        ("budget, cut at corners, 10 scored", segment, {**knobs, "candidates": K}),
        ("budget, cut at corners, then scored", segment, knobs),
    ]
    rows = []
    for name, part, given in cases:
        found = Searcher([part]).search(queries, K, **given)
        same = [len(set(a) & set(b)) / K for a, b in zip(found.documents.tolist(), truth)]
        rows.append({"what": name, "postings": float(found.postings.mean()),
                     "scored": float(found.scored.mean()), "overlap": float(np.mean(same))})
    return rows


def main() -> None:
    """Build, race, and write what was seen."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, help="folder with docs.npz and queries.npz")
    parser.add_argument("--documents", type=int, default=200_000)
    parser.add_argument("--queries", type=int, default=500)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--seismic", type=int, nargs="*", default=[], help="postings a list")
    parser.add_argument("--work", type=Path, default=Path(".cache/retrieval"))
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--out", type=Path)
    given = parser.parse_args()

    documents, queries = collection(given)
    work = given.data or given.work / f"{given.documents}-{given.seed}"
    work.mkdir(parents=True, exist_ok=True)
    start, cpu = time.perf_counter(), time.process_time()
    segment = build(documents)
    seconds = {"wall_s": time.perf_counter() - start, "cpu_s": time.process_time() - cpu}
    exact = Searcher([build(documents, weights="float32")]).search(queries, K, exact=True)
    truth, floor = exact.documents.tolist(), exact.scores[:, -1]

    contenders, builds = ours(segment, queries, documents.count), []
    if given.seismic and importlib.util.find_spec("seismic"):
        others, builds = seismic(work, given, documents, queries)
        contenders += others
    if importlib.util.find_spec("numba"):
        contenders.append(loop(documents, queries))
    race(contenders, queries.count, given.rounds)
    rows = [summary(c, recall(c.found, documents, queries, floor)) for c in contenders]
    best = {name: frontier(rows, name) for name in ("gossamer", "seismic")}
    exact_row = next(row for row in rows if row.get("exact"))
    loops = [row for row in rows if row["name"] == "numba loop"]
    knobs = {key: best["gossamer"]["0.95"].get(key) for key in ("budget", "candidates")}
    if knobs["budget"] is None:
        knobs = {"budget": documents.count // 16, "candidates": 30}
    report = {
        "environment": environment(), "load": os.getloadavg(), "documents": documents.count,
        "nnz": documents.nnz, "raw_bytes": 8 * documents.nnz, "queries": queries.count,
        "build": {**seconds, "bytes": sum(segment.bytes().values()), "parts": segment.bytes()},
        "seismic_builds": builds, "frontier": best, "exact": exact_row, "loop": loops,
        "exact_over_loop": round(exact_row["mean_us"] / loops[0]["mean_us"], 3) if loops else None,
        "times_seismic": {
            level: round(row["mean_us"] / best["gossamer"][level]["mean_us"], 2)
            for level, row in best["seismic"].items() if level in best["gossamer"]
        },
        "queries_a_second_by_threads": throughput(segment, queries, knobs),
        "ablation": ablation(segment, queries, knobs, truth), "rows": rows,
    }
    text = json.dumps(report, indent=1, default=float)
    if given.out is not None:
        given.out.write_text(text + "\n")
    shown = {key: value for key, value in report.items() if key not in ("rows", "environment")}
    print(json.dumps(shown, indent=1, default=float))


if __name__ == "__main__":
    main()
