"""Service: the index behind the routes; slow work goes to threads, so that the loop stays free."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeVar

from gossamer.core import DataError
from gossamer.retrieval.encoders import Encoder
from gossamer.retrieval.index import Hits, SparseIndex
from gossamer.retrieval.index.beside import payloads_of
from gossamer.retrieval.serve import asked
from gossamer.retrieval.serve.asked import Reader, Search
from gossamer.retrieval.serve.deadline import Deadline
from gossamer.retrieval.serve.limits import Limits

T = TypeVar("T")


class BusyError(Exception):
    """More requests are being worked on than the limits allow."""


class UnknownIdError(Exception):
    """A document that is asked for by its id is not there."""


class Service:
    """Searches and changes of one index for many clients at a time.

    Args:
        index: open; closed by `close`.
        encoder: what reads text; None where vectors come ready made.
        limits: bounds of a request.
    """

    def __init__(self, index: SparseIndex, encoder: Encoder | None, limits: Limits) -> None:
        self.index, self.encoder, self.limits = index, encoder, limits
        self.reader = Reader(limits, encoder)
        self.writable = bool(index.stats()["writable"])
        self.active, self._lock = 0, threading.Lock()
        self._searching = ThreadPoolExecutor(limits.threads, "search")
        # Writers wait for one another anyway; one thread leaves the others to searches.
        self._writing = ThreadPoolExecutor(1, "write")

    async def run(self, work: Callable[[], T], *, write: bool = False) -> T:
        """The work's result, computed in a thread.

        Raises:
            BusyError: too much is going on.
            TimeoutError: it takes longer than the limits allow.
        """
        if self.active >= self.limits.concurrent:
            raise BusyError
        self._enter(1)

        def counted() -> T:
            # The work counts until it is done, also where nobody waits for it any more.
            try:
                return work()
            finally:
                self._enter(-1)

        future = (self._writing if write else self._searching).submit(counted)
        try:
            with Deadline(self.limits.work_seconds):
                return await asyncio.wrap_future(future)
        finally:
            if future.cancelled():  # before it began
                self._enter(-1)

    def _enter(self, count: int) -> None:
        with self._lock:
            self.active += count

    def search(self, wanted: Search) -> dict[str, Any]:
        """Hits of one query, or of several."""
        queries = self.reader.rows(wanted.queries, "query", queries=True)
        start = time.perf_counter()
        hits = self.index.search(
            queries, wanted.k, wanted.recall, budget=wanted.budget, candidates=wanted.candidates,
            exact=wanted.exact, filter=wanted.ids)
        seconds = time.perf_counter() - start
        results = [self._result(wanted, queries.take(q, q + 1), hits, q)
                   for q in range(queries.count)]
        facts = {"exact": hits.exact, "milliseconds": round(1e3 * seconds, 3)}
        return {**results[0], **facts} if wanted.single else {"results": results, **facts}

    def _result(self, wanted: Search, query: Any, hits: Hits, q: int) -> dict[str, Any]:
        ids = hits.ids[q]
        found: list[dict[str, Any]] = [
            {"id": id, "score": score} for id, score in zip(ids, hits.scores[q].tolist())]
        if wanted.payload:
            for hit, payload in zip(found, payloads_of(self.index, ids)):
                hit["payload"] = payload
        if wanted.explain:
            for hit in found:
                # None of them where it was deleted since it was found.
                hit["terms"] = self._terms(query, hit["id"]) if hit["id"] in self.index else []
        return {"hits": found, "postings": int(hits.postings[q]), "scored": int(hits.scored[q])}

    def explain(self, body: Any) -> dict[str, Any]:
        """What each term brings to a document's score."""
        query, id = asked.explanation(body)
        rows = self.reader.rows([query], "query", queries=True)
        if id not in self.index:
            raise UnknownIdError(f"There is no document with the id {str(id)[:80]!r}.")
        return {"id": id, "score": self.index.explain(rows, id).score,
                "terms": self._terms(rows, id)}

    def _terms(self, query: Any, id: Any) -> list[dict[str, Any]]:
        lexicon = None if self.encoder is None else self.encoder.lexicon
        return [{"term": str(term) if lexicon is None else lexicon.token(term), "query": left,
                 "document": right, "product": product}
                for term, left, right, product in self.index.explain(query, id).terms]

    def add(self, body: Any) -> dict[str, Any]:
        """Add documents."""
        given = asked.documents(body, self.limits)
        rows = self.reader.rows(given.vectors, "document", queries=False)
        return {"ids": self.index.add(rows, given.ids, given.payloads)}

    def update(self, body: Any) -> dict[str, Any]:
        """Put documents in the place of those with their ids."""
        given = asked.documents(body, self.limits)
        if given.ids is None:
            raise DataError("To change documents, give their ids.")
        rows = self.reader.rows(given.vectors, "document", queries=False)
        return {"ids": self.index.update(rows, given.ids, given.payloads)}

    def delete(self, body: Any) -> dict[str, Any]:
        """Delete documents."""
        return {"deleted": self.index.delete(asked.identifiers(body, self.limits))}

    def stats(self) -> dict[str, Any]:
        """Figures of the index, with its encoder."""
        return {**self.index.stats(), "parts": self.index.bytes(),
                "encoder": None if self.encoder is None else self.encoder.kind}

    def refresh(self) -> None:
        """See what another process wrote."""
        self.index.refresh()

    def close(self) -> None:
        """Wait for what runs, and close the index."""
        self._searching.shutdown(cancel_futures=True)
        self._writing.shutdown()
        self.index.close()
