"""Instructions a query, counted by valgrind: a figure that a busy machine does not move.

    python benchmarks/retrieval_instructions.py --documents 50000 --out FILE.json

A segment of `gossamer.planted.TopicMixture` is built and stored; a child process under callgrind
loads nothing but numpy and the native module and answers all queries once, then 21 times. What the
second run executed more, over the queries that it answered more, is the cost of one; what importing
differs by from run to run is spread over 2,000 of them.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np

from gossamer import native
from gossamer.core import NeedsError
from gossamer.layout.rows import as_rows
from gossamer.ops.postings import Searcher, build
from gossamer.planted.splade import TopicMixture

CHILD = """
import importlib.util, json, sys
import numpy as np
module, folder, count, exact, budget, candidates = sys.argv[1:]
spec = importlib.util.spec_from_file_location("gossamer.native._core", module)
core = importlib.util.module_from_spec(spec)
spec.loader.exec_module(core)
names = ("postings", "heads", "starts", "terms", "weights")
parts = [np.load(f"{folder}/{name}.npy") for name in names]
segments = core.Segments()
segments.append(len(parts[2]) - 1, len(parts[1]), [*(p.ctypes.data for p in parts), 0],
                parts[3].dtype == np.uint32, parts[4].dtype == np.float16, 0)
starts, terms, weights = (np.load(f"{folder}/query_{name}.npy") for name in names[2:])
for _ in range(int(count)):
    segments.search(starts, terms, weights, 10, int(budget), int(candidates), exact == "1", [], 1)
"""
QUERIES, FEW, MANY = 100, 1, 21


def executed(folder: Path, count: int, knobs: dict[str, Any]) -> int:
    """Instructions of a child that answers all queries so many times."""
    given = [str(native.core.__file__), str(folder), str(count), str(int(knobs.get("exact", 0))),
             str(knobs.get("budget", 0)), str(knobs.get("candidates", 0))]
    command = ["valgrind", "--tool=callgrind", "--callgrind-out-file=/dev/null",
               sys.executable, "-c", CHILD, *given]
    # Hashes of strings differ from process to process, and so would the work of imports.
    run = subprocess.run(command, capture_output=True, text=True, check=False,
                         env={**os.environ, "PYTHONHASHSEED": "0"})
    found = re.search(r"Collected : (\d+)", run.stderr)
    if run.returncode != 0 or found is None:
        raise NeedsError(f"valgrind did not run: {run.stderr[-300:]}")
    return int(found.group(1))


def main() -> None:
    """Count each way of searching."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--documents", type=int, default=50_000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path)
    given = parser.parse_args()
    mixture = TopicMixture(seed=given.seed)
    documents = as_rows(mixture.documents(0, given.documents), mixture.vocabulary)
    queries = as_rows(mixture.queries(QUERIES, given.documents)[0], mixture.vocabulary)
    segment = build(documents)
    lengths = np.bincount(documents.terms, minlength=documents.vocabulary)
    ways = {"exact": {"exact": 1}} | {
        f"{share:.0%} of documents in postings, 30 scored":
        {"budget": int(share * given.documents), "candidates": 30} for share in (0.04, 0.08, 0.16)
    }
    rows = []
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for part, array in segment.arrays().items():
            np.save(folder / f"{part}.npy", array)
        for part, array in (("starts", queries.starts), ("terms", queries.terms.astype(np.int32)),
                            ("weights", queries.weights)):
            np.save(folder / f"query_{part}.npy", array)
        truth = Searcher([segment]).search(queries, 10, exact=True).documents.tolist()
        for way, knobs in ways.items():
            count = executed(folder, MANY, knobs) - executed(folder, FEW, knobs)
            found = Searcher([segment]).search(queries, 10, **{**knobs, "exact": way == "exact"})
            same = zip(found.documents.tolist(), truth, strict=True)
            rows.append({
                "way": way, "instructions": round(count / (QUERIES * (MANY - FEW))),
                "postings": float(found.postings.mean()), "scored": float(found.scored.mean()),
                "overlap": float(np.mean([len(set(a) & set(b)) / 10 for a, b in same])),
            })
    report = {
        "documents": given.documents, "isa": native.isa(), "rows": rows,
        "postings_of_the_terms": float(np.mean(
            [lengths[queries.row(i)[0]].sum() for i in range(queries.count)])),
    }
    text = json.dumps(report, indent=1)
    print(text)
    if given.out is not None:
        given.out.write_text(text + "\n")


if __name__ == "__main__":
    main()
