"""Snapshot: what one search sees, whatever is written meanwhile."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gossamer.core import ConfigError
from gossamer.core.errors import unknown
from gossamer.layout.rows import Rows
from gossamer.ops import documentwise
from gossamer.ops.postings import Found, Searcher
from gossamer.retrieval.index import bits
from gossamer.retrieval.index.bits import Bits
from gossamer.retrieval.index.identifiers import Kind, keys_of
from gossamer.retrieval.index.knobs import Knobs
from gossamer.retrieval.index.part import Part

ENGINES = ("impact", *documentwise.ENGINES)


@dataclass(frozen=True, eq=False)
class Snapshot:
    """Parts that are searched as one index; nothing of it ever changes.

    Args:
        parts: each with a segment.
        searcher: over their segments.
        firsts: int64 ``[parts]``, the number of each part's first document.
        kind: of the identifiers; None while there are none.
        live: documents that can be found.
        terms: terms of all documents together, the deleted ones with them.
    """

    parts: tuple[Part, ...]
    searcher: Searcher
    firsts: NDArray[np.int64]
    kind: Kind | None
    live: int
    terms: int

    @classmethod
    def of(cls, parts: Sequence[Part], kind: Kind | None) -> Snapshot:
        """A snapshot of parts that have segments; those without a living document are left out."""
        kept = [part for part in parts if part.segment is not None and part.live]
        segments = [part.segment for part in kept if part.segment is not None]
        searcher = Searcher(segments, [part.alive for part in kept])
        firsts = np.cumsum([0, *(part.documents for part in kept)])[:-1].astype(np.int64)
        live = sum(part.live for part in kept)
        terms = sum(len(segment.terms) for segment in segments)
        return cls(tuple(kept), searcher, firsts, kind, live, terms)

    @cached_property
    def lists(self) -> documentwise.DocumentSearcher:
        """The same documents in lists by document, sorted when an engine first asks for them."""
        return documentwise.DocumentSearcher(
            self.searcher.segments, [part.alive for part in self.parts])

    def search(
        self, rows: Rows, k: int, knobs: Knobs, engine: str, allowed: Sequence[Bits] | None,
        threads: int,
    ) -> Found:
        """Answers of an engine; the knobs are those of "impact"."""
        if engine not in ENGINES:
            raise ConfigError(unknown("engine", engine, ENGINES))
        if engine != "impact":
            return self.lists.search(rows, k, engine=engine, allowed=allowed, threads=threads)
        return self.searcher.search(
            rows, k, budget=knobs.budget, candidates=knobs.candidates, exact=knobs.exact,
            allowed=allowed, threads=threads)

    def ids_of(self, documents: NDArray[np.int64]) -> list[Any]:
        """Identifiers of documents by their number."""
        if len(self.parts) == 1:
            return self.parts[0].ids.take(documents)
        which = np.searchsorted(self.firsts, documents, side="right") - 1
        found: list[Any] = [None] * len(documents)
        for i in np.unique(which):
            places = np.flatnonzero(which == i)
            ids = self.parts[i].ids.take(documents[places] - self.firsts[i])
            for place, one in zip(places.tolist(), ids):
                found[place] = one
        return found

    def locate(self, identifier: Any) -> tuple[Part, int] | None:
        """The part and the place in it of a living document, or None."""
        if self.kind is None:
            return None
        keys = keys_of([identifier], self.kind)
        for part in self.parts:
            row = int(part.find([identifier], keys)[0])
            if row >= 0:
                return part, row
        return None

    def bits_of(self, ids: Sequence[Any]) -> tuple[list[Bits], int]:
        """A bit a document for each part, set for these identifiers; and how many were found."""
        allowed, count = [], 0
        keys = keys_of(ids, self.kind or "int")
        for part in self.parts:
            rows = part.find(ids, keys)
            flags = np.zeros(part.documents, np.bool_)
            flags[rows[rows >= 0]] = True
            count += int(flags.sum())
            allowed.append(bits.packed(flags))
        return allowed, count
