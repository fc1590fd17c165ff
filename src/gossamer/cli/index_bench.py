"""Time and recall of an index's searches, as a table and as JSON."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from rich.table import Table

from gossamer.core.atomic import write_text
from gossamer.layout.rows import Rows
from gossamer.measure import environment
from gossamer.retrieval import SparseIndex
from gossamer.retrieval.index.knobs import recall_of

_RECALLS = (0.9, 0.95, 0.99)
_COLUMNS = ("aimed at", "recall", "us a query", "one by one", "99th percentile", "postings",
            "scored")


def measured(
    index: SparseIndex, queries: Rows, k: int, seconds: float,
    report: Callable[[int, int, str], None], out: Path | None,
) -> Table:
    """A line for each recall and one for exact search.

    The first time is that of the quickest pass over all queries in one call, on one thread; the
    others are of queries asked one by one.
    """
    truth = index.search(queries, k, exact=True).scores
    lines = []
    for done, recall in enumerate((*_RECALLS, 1.0)):
        lines.append(_line(index, queries, k, recall, seconds, truth))
        report(done + 1, len(_RECALLS) + 1, f"recall {recall:g}")
    table = Table(title=f"{queries.count} queries, k = {k}, {len(index):,} documents")
    for name in _COLUMNS:
        table.add_column(name, justify="right")
    for line in lines:
        table.add_row(
            "exact" if line["exact"] else f"{line['aim']:g}", f"{line['recall']:.4f}",
            *(f"{1e6 * line[name]:,.0f}" for name in ("batch", "mean", "p99")),
            f"{line['postings']:,.0f}", f"{line['scored']:,.0f}")
    if out is not None:
        found = {"documents": len(index), "queries": queries.count, "k": k, "lines": lines,
                 "bytes": index.bytes(), "environment": environment()}
        write_text(out, json.dumps(found, indent=1) + "\n")
    return table


def _line(
    index: SparseIndex, queries: Rows, k: int, recall: float, seconds: float, truth: Any,
) -> dict[str, Any]:
    hits = index.search(queries, k, recall)
    batch = float("inf")
    single: list[float] = []
    stop = time.perf_counter() + seconds / 2
    while batch == float("inf") or time.perf_counter() < stop:
        start = time.perf_counter()
        index.search(queries, k, recall)
        batch = min(batch, (time.perf_counter() - start) / max(1, queries.count))
    stop = time.perf_counter() + seconds / 2
    while not single or time.perf_counter() < stop:
        query = queries.take(at := len(single) % queries.count, at + 1)
        start = time.perf_counter()
        index.search(query, k, recall)
        single.append(time.perf_counter() - start)
    return {
        "aim": recall, "recall": recall_of(hits.scores, truth), "exact": hits.exact,
        "batch": batch, "mean": float(np.mean(single)), "p99": float(np.percentile(single, 99)),
        "postings": float(hits.postings.mean()), "scored": float(hits.scored.mean()),
    }
