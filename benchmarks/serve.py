"""Requests a second that an index answers over HTTP on loopback, and how late; prints JSON.

An index is built of the documents, served by ``gossamer index serve`` in a process of its own, and
asked at a fixed rate, one query a request. A request is late from the moment that it was due, also
where it waited for a connection, so that a server that falls behind cannot hide it. Client and
server share the machine.

    python benchmarks/serve.py --documents docs.npz --queries queries.npz --out benchmarks/results
    python benchmarks/serve.py --quick                  (a small made-up index: does it run?)
"""

from __future__ import annotations

import argparse
import asyncio
import importlib.util
import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
from pathlib import Path
from typing import Any

import numpy as np

from gossamer.core.atomic import write_text
from gossamer.layout.rows import Rows, as_rows
from gossamer.measure import environment
from gossamer.retrieval import SparseIndex
from gossamer.retrieval.exchange import read_documents

CONNECTIONS = 64


def made_up(count: int, seed: int) -> Rows:
    """Rows of 40 terms of 2,000, the low ones more often."""
    chance = np.random.default_rng(seed)
    rows = []
    for _ in range(count):
        terms = np.unique((2000 * chance.random(60) ** 2).astype(int))[:40]
        rows.append(dict(zip(terms.tolist(), chance.exponential(1.0, len(terms)).tolist())))
    return as_rows(rows, 2000)


def read(path: Path) -> Rows:
    """All rows of a file."""
    parts = [batch.rows for batch in read_documents(path)]
    starts = np.concatenate([[0], np.cumsum(np.concatenate([np.diff(p.starts) for p in parts]))])
    return as_rows((starts, np.concatenate([p.terms for p in parts]),
                    np.concatenate([p.weights for p in parts])), parts[0].vocabulary)


def requests(queries: Rows, k: int, recall: float) -> list[bytes]:
    """Each query as the bytes of a request."""
    found = []
    for i in range(queries.count):
        terms, weights = queries.row(i)
        body = json.dumps({"query": {"terms": terms.tolist(), "weights": weights.tolist()},
                           "k": k, "recall": recall}).encode()
        found.append(b"POST /search HTTP/1.1\r\nHost: localhost\r\n"
                     b"Content-Type: application/json\r\nContent-Length: "
                     + str(len(body)).encode() + b"\r\n\r\n" + body)
    return found


async def answered(reader: asyncio.StreamReader) -> bool:
    """Read one answer; whether its status was 200."""
    head = await reader.readuntil(b"\r\n\r\n")
    length = int(head.lower().split(b"content-length:")[1].split(b"\r\n")[0])
    await reader.readexactly(length)
    return head.startswith(b"HTTP/1.1 200")


def cpu_seconds(process: int) -> float:
    """Seconds of CPU that a process has used, by the kernel's count."""
    fields = Path(f"/proc/{process}/stat").read_text().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def measured(
    server: int, port: int, sent: list[bytes], rate: float, seconds: float,
) -> dict[str, Any]:
    """What `load` found, and the CPU time that the server took for a request."""
    before = cpu_seconds(server)
    found = asyncio.run(load(port, sent, rate, seconds))
    spent = cpu_seconds(server) - before
    return {**found, "server_cpu_us": 1e6 * spent / found["requests"],
            "load_average_after": os.getloadavg()[0]}


async def load(port: int, sent: list[bytes], rate: float, seconds: float) -> dict[str, Any]:
    """Ask at a fixed rate for some time; latencies in seconds, and errors."""
    count = int(rate * seconds)
    late, errors, place = np.zeros(count), 0, iter(range(count))
    begin = time.perf_counter() + 0.2

    async def client() -> None:
        nonlocal errors
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        for i in place:
            due = begin + i / rate
            if (wait := due - time.perf_counter()) > 0:
                await asyncio.sleep(wait)
            writer.write(sent[i % len(sent)])
            if not await answered(reader):
                errors += 1
            late[i] = time.perf_counter() - due
        writer.close()

    await asyncio.gather(*(client() for _ in range(CONNECTIONS)))
    took = time.perf_counter() - begin
    return {
        "asked_per_second": rate, "answered_per_second": count / took, "requests": count,
        "errors": errors, **{f"p{p:g}_ms": float(1e3 * np.percentile(late, p))
                             for p in (50, 90, 99, 99.9)}, "worst_ms": float(1e3 * late.max()),
    }


def served(folder: Path, threads: int) -> tuple[subprocess.Popen[bytes], int]:
    """A server of the index, once it answers."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = int(free.getsockname()[1])
    server = subprocess.Popen(
        [sys.executable, "-c", "from gossamer.cli import main; raise SystemExit(main())", "index",
         "serve", str(folder), "--port", str(port), "--threads", str(threads)],
        stderr=subprocess.DEVNULL)
    deadline = time.monotonic() + 120
    while time.monotonic() < deadline and server.poll() is None:
        try:
            urllib.request.urlopen(f"http://127.0.0.1:{port}/health", timeout=5)
            return server, port
        except OSError:
            time.sleep(0.1)
    server.kill()
    raise SystemExit("The server did not start.")


def main() -> None:
    """Build, serve, ask at each rate, and print what came of it."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--documents", type=Path, help=".npz, or another format of exchange")
    parser.add_argument("--queries", type=Path)
    parser.add_argument("--rates", type=float, nargs="+", default=[500.0])
    parser.add_argument("--seconds", type=float, default=60.0, help="at each rate")
    parser.add_argument("--recall", type=float, default=0.95)
    parser.add_argument("--k", type=int, default=10)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--out", type=Path, help="folder for serve.json")
    given = parser.parse_args()
    if given.quick:
        documents, queries = made_up(2000, 0), made_up(100, 1)
        given.seconds = min(given.seconds, 3.0)
    else:
        documents, queries = read(given.documents), read(given.queries)
    with tempfile.TemporaryDirectory() as folder:
        index = SparseIndex.build(documents, folder=Path(folder) / "index")
        index.close()
        server, port = served(Path(folder) / "index", given.threads)
        sent = requests(queries, given.k, given.recall)
        try:
            asyncio.run(load(port, sent, 100.0, 1.0))  # warm
            lines = [measured(server.pid, port, sent, rate, given.seconds)
                     for rate in given.rates]
        finally:
            server.send_signal(signal.SIGTERM)
            server.wait(30)
    found = {
        "documents": documents.count, "queries": queries.count, "k": given.k,
        "recall": given.recall, "threads": given.threads, "connections": CONNECTIONS,
        "with": [name for name in ("orjson", "uvloop", "httptools")
                 if importlib.util.find_spec(name)],
        "load_average_before": os.getloadavg()[0], "lines": lines, "environment": environment(),
    }
    text = json.dumps(found, indent=1)
    print(text)
    if given.out is not None:
        write_text(given.out / "serve.json", text + "\n")


if __name__ == "__main__":
    main()
