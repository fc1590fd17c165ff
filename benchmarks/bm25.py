"""BM25 queries a second on one thread: gossamer against tantivy and bm25s; prints JSON.

The collection is generated (`gossamer.planted.TopicMixture`): term i of a vector is the word "wi"
as often as its weight, rounded, says. A query is the 6 heaviest words of a generated query, or all
of them. Every engine answers the queries one call each (the way of a service) and, where it can,
all in one call; the engines take turns, and of each query the least CPU time of several rounds
counts: on one thread that is what the wall clock shows on an idle machine. Scores of gossamer and
bm25s are compared; tantivy rounds lengths to a byte, so that only its agreement is shown.

    python benchmarks/bm25.py --out benchmarks/results           (needs tantivy, bm25s and numba)
    python benchmarks/bm25.py --documents 5000 --queries 20      (does it run?)
"""

from __future__ import annotations

import argparse
import importlib.metadata
import json
import os
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("NUMBA_NUM_THREADS", "1")

import numpy as np

sys.path.insert(0, str(Path(__file__).parent))
from packed_linear import cpu_name

from gossamer.layout.rows import Rows, as_rows
from gossamer.ops.documentwise import DocumentSearcher, Engine
from gossamer.ops.postings import Searcher, build
from gossamer.planted import TopicMixture
from gossamer.retrieval import BM25

K, K1, B = 10, 1.2, 0.75
Search = Callable[[int], list[int]]
Built = dict[str, Any]


@dataclass(frozen=True)
class Contender:
    """A way to search: one query a call, and all queries in one call where there is such a way.

    `answers` gives document numbers, where what `one` returns is of another kind.
    """

    name: str
    one: Callable[[int], Any]
    all: Callable[[], Any] | None = None
    answers: Search | None = None


Engines = Callable[[Rows], list[Contender]]  # for these queries


def counted(vectors: Rows) -> Rows:
    """Words of vectors: how often each comes."""
    return Rows(vectors.starts, vectors.terms, np.maximum(1, np.rint(vectors.weights)),
                vectors.vocabulary)


def heaviest(vectors: Rows, count: int | None) -> Rows:
    """Each row's heaviest terms, each once."""
    rows = []
    for i in range(vectors.count):
        terms, weights = vectors.row(i)
        kept = terms[np.argsort(-weights, kind="stable")[:count]]
        rows.append(dict.fromkeys(kept.tolist(), 1.0))
    return as_rows(rows, vectors.vocabulary)


def ours(impacts: Rows, built: Built) -> Engines:
    """gossamer's engines over the same impacts."""
    start = time.process_time()
    segment = build(impacts)
    built["gossamer, impact"] = {
        "build_cpu_s": round(time.process_time() - start, 2),
        "megabytes": round(sum(segment.bytes().values()) / 1e6, 1)}
    start = time.process_time()
    documentwise = DocumentSearcher([impacts])
    built["gossamer, maxscore"] = {
        "build_cpu_s": round(time.process_time() - start, 2),
        "megabytes": round(sum(documentwise.segments[0].bytes().values()) / 1e6, 1)}
    searcher = Searcher([segment])

    def contenders(queries: Rows) -> list[Contender]:
        single = [queries.take(i, i + 1) for i in range(queries.count)]
        found = [Contender(
            "gossamer, impact",
            lambda i: searcher.search(single[i], K, exact=True).documents[0].tolist(),
            lambda: searcher.search(queries, K, exact=True))]
        names: tuple[Engine, ...] = ("maxscore", "bmm", "bmw")
        return found + [Contender(
            f"gossamer, {name}",
            lambda i, e=name: documentwise.search(single[i], K, engine=e).documents[0].tolist(),
            lambda e=name: documentwise.search(queries, K, engine=e)) for name in names]

    return contenders


def texts(rows: Rows) -> Iterator[str]:
    """Each row as words."""
    for i in range(rows.count):
        terms, counts = rows.row(i)
        yield " ".join(np.repeat([f"w{t}" for t in terms.tolist()], counts.astype(int)).tolist())


def tantivys(counts: Rows, built: Built, folder: str) -> Engines:
    """tantivy with the scores it has, without counting hits."""
    import tantivy
    schema = tantivy.SchemaBuilder()
    schema.add_integer_field("id", stored=True)
    schema.add_text_field("t", stored=False, tokenizer_name="whitespace", index_option="freq")
    index = tantivy.Index(schema.build(), path=folder)
    words = list(texts(counts))
    start = time.process_time()
    writer = index.writer(heap_size=500_000_000, num_threads=1)
    for i, text in enumerate(words):
        writer.add_document(tantivy.Document(id=i, t=text))
    writer.commit()
    writer.wait_merging_threads()
    built["tantivy"] = {"build_cpu_s": round(time.process_time() - start, 2),
                        "megabytes": round(megabytes(folder), 1)}
    index.reload()
    searcher = index.searcher()
    built["tantivy"]["segments"] = searcher.num_segments

    def contenders(queries: Rows) -> list[Contender]:
        parsed = [index.parse_query(text, ["t"]) for text in texts(queries)]

        def one(i: int) -> list[Any]:
            return [address for _, address in searcher.search(parsed[i], K, count=False).hits]

        def ids(i: int) -> list[int]:
            return [int(searcher.doc(address)["id"][0]) for address in one(i)]

        return [Contender("tantivy", one, answers=ids)]

    return contenders


def bm25s_of(counts: Rows, built: Built) -> Engines:
    """bm25s with both of its backends."""
    import bm25s
    vocabulary = {f"w{t}": t for t in range(counts.vocabulary)}
    corpus = [np.repeat(terms, n.astype(int)).tolist()
              for terms, n in (counts.row(i) for i in range(counts.count))]
    retrievers = {}
    for backend in ("numpy", "numba"):
        start = time.process_time()
        retrievers[backend] = bm25s.BM25(k1=K1, b=B, backend=backend)
        retrievers[backend].index((corpus, vocabulary), show_progress=False)
        seconds = time.process_time() - start
        scores = retrievers[backend].scores
        size = sum(scores[name].nbytes for name in ("data", "indices", "indptr"))
        built[f"bm25s, {backend}"] = {"build_cpu_s": round(seconds, 2),
                                      "megabytes": round(size / 1e6, 1)}

    def contenders(queries: Rows) -> list[Contender]:
        words = [[f"w{t}" for t in queries.row(i)[0].tolist()] for i in range(queries.count)]

        def several(retriever: Any, some: list[list[str]]) -> Any:
            return retriever.retrieve(some, k=K, show_progress=False, n_threads=0).documents

        return [Contender(f"bm25s, {backend}", lambda i, r=retriever: several(r, [words[i]])[0],
                          lambda r=retriever: several(r, words))
                for backend, retriever in retrievers.items()]

    return contenders


def megabytes(folder: str) -> float:
    """Of all files of a folder."""
    return sum(p.stat().st_size for p in Path(folder).rglob("*") if p.is_file()) / 1e6


def timed(contenders: list[Contender], count: int, rounds: int) -> dict[str, dict[str, float]]:
    """Microseconds a query, single and in batch, of contenders that take turns."""
    single = {c.name: np.full(count, np.inf) for c in contenders}
    batch = {c.name: float("inf") for c in contenders if c.all is not None}
    for turn in range(rounds + 1):
        for contender in contenders:
            for i in range(count):
                start = time.process_time()
                contender.one(i)
                if turn:
                    spent = time.process_time() - start
                    single[contender.name][i] = min(single[contender.name][i], spent)
            if contender.all is not None:
                start = time.process_time()
                contender.all()
                if turn:
                    batch[contender.name] = min(batch[contender.name],
                                                (time.process_time() - start) / count)
    return {name: {
        "mean_us": round(1e6 * float(t.mean()), 1), "p50_us": round(1e6 * float(np.median(t)), 1),
        "p99_us": round(1e6 * float(np.percentile(t, 99)), 1),
        "queries_per_second": round(1 / float(t.mean()), 1),
        **({"batch_us": round(1e6 * batch[name], 1)} if name in batch else {}),
    } for name, t in single.items()}


def agreement(contenders: list[Contender], impacts: Rows, queries: Rows) -> dict[str, float]:
    """Share of the answers of each whose exact score reaches that of the tenth best."""
    found = {}
    exact = Searcher([build(impacts, weights="float32")])
    floors = exact.search(queries, K, exact=True).scores[:, -1]
    for contender in contenders:
        good = 0
        for q in range(queries.count):
            terms, weights = queries.row(q)
            dense = np.zeros(impacts.vocabulary)
            dense[terms] = weights
            for d in (contender.answers or contender.one)(q):
                row_terms, row_weights = impacts.row(int(d))
                good += float(row_weights @ dense[row_terms]) >= floors[q] * (1 - 1e-4)
        found[contender.name] = round(good / (K * queries.count), 4)
    return found


def main() -> None:
    """Build every engine, check answers, time, print and write."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, help="folder for bm25-<cpu>.json")
    parser.add_argument("--documents", type=int, default=200_000)
    parser.add_argument("--queries", type=int, default=300)
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    law = TopicMixture()
    counts = counted(as_rows(law.documents(0, options.documents), law.vocabulary))
    vectors = as_rows(law.queries(options.queries, options.documents)[0], law.vocabulary)
    start = time.process_time()
    impacts = BM25(K1, B).fit(counts).rows
    built: Built = {"impacts of gossamer": {"build_cpu_s": round(time.process_time() - start, 2)}}
    report: dict[str, Any] = {
        "cpu": cpu_name(), "load": os.getloadavg()[0], "documents": options.documents,
        "postings": counts.nnz, "queries": options.queries, "k": K, "k1": K1, "b": B,
        "versions": {name: importlib.metadata.version(name) for name in ("tantivy", "bm25s")},
        "built": built,
    }
    with tempfile.TemporaryDirectory() as folder:
        engines = [ours(impacts, built), tantivys(counts, built, folder), bm25s_of(counts, built)]
        for terms in (6, None):
            queries = heaviest(vectors, terms)
            contenders = [c for engine in engines for c in engine(queries)]
            report[f"{terms or 'all'} terms"] = {
                "times": timed(contenders, queries.count, options.rounds),
                "answers_right": agreement(contenders, impacts, queries)}
    report["load_after"] = os.getloadavg()[0]
    text = json.dumps(report, indent=1)
    print(text)
    if options.out:
        name = cpu_name().lower().replace(" ", "-")
        (options.out / f"bm25-{name}.json").write_text(text + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
