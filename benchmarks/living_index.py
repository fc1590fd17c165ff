"""A living index under load: adds a second beside searches, latency beside adds and merges.

    python benchmarks/living_index.py --folder SCRATCH --out FILE.json

An index of `gossamer.planted.TopicMixture` is built in a folder. One thread searches all along and
notes each latency: first alone, then while another thread adds batches as fast as they become
durable, then while all segments are merged into one. Each added batch is looked for right after it
was acknowledged, and at last the folder is opened again, as after a crash.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from gossamer.layout.rows import Rows, as_rows
from gossamer.measure import environment
from gossamer.planted.splade import TopicMixture
from gossamer.retrieval import SparseIndex

BATCH = 1000


def searching(index: SparseIndex, queries: Rows, work: Callable[[], Any] | None, seconds: float,
              ) -> tuple[dict[str, float], Any]:
    """Latencies of single searches while the work is done, or for some seconds."""
    singles = [queries.take(i, i + 1) for i in range(queries.count)]
    result: list[Any] = []
    worker = threading.Thread(target=lambda: result.append(work())) if work is not None else None
    if worker is not None:
        worker.start()
    times: list[float] = []
    end = time.perf_counter() + seconds
    while worker.is_alive() if worker is not None else time.perf_counter() < end:
        start = time.perf_counter()
        index.search(singles[len(times) % len(singles)])
        times.append(time.perf_counter() - start)
    us = np.array(times) * 1e6
    return ({"searches": len(us), "mean_us": float(us.mean()), "p50_us": float(np.median(us)),
             "p99_us": float(np.percentile(us, 99))}, result[0] if result else None)


def adding(index: SparseIndex, rows: Rows, first: int) -> dict[str, float]:
    """Durable adds, batch after batch, and how long until each can be found."""
    seen = []
    start, cpu = time.perf_counter(), time.thread_time()
    for at in range(0, rows.count, BATCH):
        last = min(at + BATCH, rows.count)
        index.add(rows.take(at, last), ids=range(first + at, first + last))
        begin = time.perf_counter()
        terms, weights = rows.row(at)
        hits = index.search([dict(zip(terms.tolist(), weights.tolist(), strict=True))], k=1)
        seen.append((time.perf_counter() - begin, hits.ids[0][0] == first + at))
    wall = time.perf_counter() - start
    return {"documents": rows.count, "documents_a_second": rows.count / wall,
            "documents_a_cpu_second": rows.count / (time.thread_time() - cpu),
            "found_after_s": max(delay for delay, _ in seen),
            "found": float(np.mean([right for _, right in seen]))}


def main() -> None:
    """Build, search, add, merge and open again."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--folder", type=Path, required=True, help="scratch folder, emptied")
    parser.add_argument("--documents", type=int, default=200_000)
    parser.add_argument("--adds", type=int, default=200_000)
    parser.add_argument("--out", type=Path)
    given = parser.parse_args()
    shutil.rmtree(given.folder, ignore_errors=True)
    mixture = TopicMixture()
    rows = as_rows(mixture.documents(0, given.documents), mixture.vocabulary)
    more = as_rows(
        mixture.documents(given.documents, given.documents + given.adds), mixture.vocabulary)
    queries = as_rows(mixture.queries(200, given.documents)[0], mixture.vocabulary)
    report: dict[str, Any] = {"environment": environment(), "load": os.getloadavg(),
                              "documents": given.documents, "batch": BATCH}
    with SparseIndex.build(rows, folder=given.folder) as index:
        report["search alone"], _ = searching(index, queries, None, 5.0)
        report["search beside adds"], report["adds"] = searching(
            index, queries, lambda: adding(index, more, given.documents), 0.0)
        report["search of many segments"], _ = searching(index, queries, None, 5.0)
        start = time.perf_counter()
        report["search beside a merge"], _ = searching(index, queries, index.merge, 0.0)
        report["merge_s"] = time.perf_counter() - start
        report["search of one segment"], _ = searching(index, queries, None, 5.0)
    start = time.perf_counter()
    with SparseIndex.load(given.folder, writable=True) as index:
        report["open_s"] = time.perf_counter() - start
        report["documents_then"] = len(index)
    shutil.rmtree(given.folder)
    text = json.dumps(report, indent=1)
    print(text)
    if given.out is not None:
        given.out.write_text(text + "\n")


if __name__ == "__main__":
    main()
