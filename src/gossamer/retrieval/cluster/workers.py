"""Workers: processes that hold a shard each, and how they are asked."""

from __future__ import annotations

import concurrent.futures
from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, Protocol

from gossamer.layout.rows import Rows
from gossamer.retrieval.cluster.routing import Answer
from gossamer.retrieval.index import SparseIndex
from gossamer.retrieval.index.beside import payloads_of


class LostError(Exception):
    """A worker that is not there any more."""


class Shard:
    """One part of the documents, opened from its folder: what a worker runs."""

    def __init__(self, folder: str, writable: bool) -> None:
        self.index = SparseIndex.load(folder, writable=writable)

    def search(self, queries: Rows, k: int, recall: float, exact: bool) -> Answer:
        """The best documents of this shard, those of the last write with them."""
        self.index.refresh()
        hits = self.index.search(queries, k, recall, exact=exact)
        scores = [row[:len(ids)] for row, ids in zip(hits.scores.tolist(), hits.ids)]
        return Answer(hits.ids, scores)

    def add(self, rows: Rows, ids: list[Any], payloads: list[Any] | None) -> int:
        """Add documents; how many."""
        return len(self.index.add(rows, ids, payloads))

    def delete(self, ids: list[Any]) -> int:
        """Delete documents; how many there were."""
        return self.index.delete(ids)

    def payloads(self, ids: list[Any]) -> list[Any]:
        """What is kept beside documents."""
        return payloads_of(self.index, ids)

    def stats(self) -> dict[str, Any]:
        """Figures of this shard."""
        self.index.refresh()
        return self.index.stats()

    def close(self) -> None:
        """Let another writer in."""
        self.index.close()


class Workers(Protocol):
    """How workers are started and asked; a ticket stands for an answer that is not there yet."""

    def start(self, folder: str, writable: bool) -> Any:
        """A worker that opens the shard in a folder."""

    def ask(self, worker: Any, method: str, *given: Any) -> Any:
        """A ticket for what a method of the worker's shard returns."""

    def wait(self, tickets: Sequence[Any], seconds: float | None) -> list[Any]:
        """Tickets whose answer is there, once one is or the time is up."""

    def result(self, ticket: Any) -> Any:
        """The answer; a LostError where the worker is gone."""

    def stop(self, worker: Any) -> None:
        """Close its shard and end it."""


class Threads:
    """Workers in threads of this process: a cluster of one machine, for small things and tests."""

    def start(self, folder: str, writable: bool) -> Any:
        """A thread with an open shard."""
        pool = ThreadPoolExecutor(1)
        return pool, pool.submit(Shard, folder, writable).result()

    def ask(self, worker: Any, method: str, *given: Any) -> Future[Any]:
        """The future of a call."""
        pool, shard = worker
        try:
            return pool.submit(getattr(shard, method), *given)  # type: ignore[no-any-return]
        except RuntimeError:  # a pool that was shut down
            lost: Future[Any] = Future()
            lost.set_exception(LostError())
            return lost

    def wait(self, tickets: Sequence[Any], seconds: float | None) -> list[Any]:
        """Futures that are done."""
        done, _ = concurrent.futures.wait(
            tickets, seconds, return_when=concurrent.futures.FIRST_COMPLETED)
        return list(done)

    def result(self, ticket: Any) -> Any:
        """What the call returned or raised."""
        return ticket.result()

    def stop(self, worker: Any) -> None:
        """Close the shard; calls that wait are still answered."""
        pool, shard = worker
        try:
            pool.submit(shard.close).result()
        except RuntimeError:  # stopped already
            return
        pool.shutdown()
