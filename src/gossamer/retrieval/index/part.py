"""Part: documents of one segment, or of batches that wait for one, and which of them live."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gossamer.layout.rows import Rows
from gossamer.ops.postings import Segment, build
from gossamer.retrieval.index import bits
from gossamer.retrieval.index.bits import Bits
from gossamer.retrieval.index.identifiers import Ids, concatenated


@dataclass(frozen=True, eq=False)
class Part:
    """Documents that came together, never changed: what becomes different is a new Part.

    Args:
        pieces: (number of the batch or segment, its documents): how the catalogue calls them.
        stored: a segment; otherwise batches that wait for one.
        ids: identifiers of the documents.
        rows: the documents, for batches; None for a segment.
        segment: their postings; None where batches were not sorted yet.
        alive: bits of the documents that were not deleted; None while that is all.
        live: how many that are.
    """

    pieces: tuple[tuple[int, int], ...]
    stored: bool
    ids: Ids
    rows: Rows | None
    segment: Segment | None
    alive: Bits | None
    live: int

    @property
    def documents(self) -> int:
        """Number of documents, the deleted ones with them."""
        return len(self.ids)

    @property
    def source(self) -> int:
        """Number of its first batch or segment."""
        return self.pieces[0][0]

    def find(self, ids: Sequence[Any], keys: NDArray[np.int64]) -> NDArray[np.int64]:
        """The living document of each identifier, -1 where there is none."""
        rows = self.ids.find(ids, keys)
        if self.alive is not None:
            known = np.flatnonzero(rows >= 0)
            rows[known[~bits.test(self.alive, rows[known])]] = -1
        return rows

    def delete(self, rows: NDArray[np.int64]) -> Part:
        """The same without the documents at ``rows``, which were alive."""
        alive = bits.every(self.documents) if self.alive is None else self.alive
        return replace(self, alive=bits.without(alive, rows), live=self.live - len(rows))

    def located(self, rows: NDArray[np.int64]) -> list[tuple[int, NDArray[np.int64]]]:
        """For each piece that any of the documents at ``rows`` is in: its number, their places."""
        edges = np.cumsum([0, *(count for _, count in self.pieces)])
        piece = np.searchsorted(edges, rows, side="right") - 1
        return [(self.pieces[i][0], rows[piece == i] - edges[i]) for i in np.unique(piece)]

    def sorted(self, weights: str) -> Part:
        """The same with a segment."""
        if self.segment is not None or self.rows is None:
            return self
        return replace(self, segment=build(self.rows, weights=weights))

    def living(self) -> tuple[Rows, Ids]:
        """Rows and identifiers of the documents that were not deleted."""
        rows = self.rows if self.rows is not None else self.all_rows()
        if self.alive is None:
            return rows, self.ids
        kept = bits.flags(self.alive, self.documents)
        lengths = np.diff(rows.starts)
        entries = np.repeat(kept, lengths)
        starts = np.zeros(int(kept.sum()) + 1, np.int64)
        np.cumsum(lengths[kept], out=starts[1:])
        chosen = Rows(starts, rows.terms[entries], rows.weights[entries], rows.vocabulary)
        return chosen, self.ids.select(np.flatnonzero(kept))

    def living_ids(self) -> list[Any]:
        """Identifiers of the documents that were not deleted."""
        if self.alive is None:
            return self.ids.take(np.arange(self.documents))
        return self.ids.take(np.flatnonzero(bits.flags(self.alive, self.documents)))

    def all_rows(self) -> Rows:
        """Rows of all its documents."""
        if self.rows is not None:
            return self.rows
        if self.segment is None:
            return Rows(np.zeros(1, np.int64), np.empty(0, np.uint16), np.empty(0, np.float32), 1)
        return self.segment.rows()

    def row(self, row: int) -> tuple[NDArray[Any], NDArray[Any]]:
        """Terms and weights of one document, as they are scored."""
        if self.segment is not None:
            run = slice(int(self.segment.starts[row]), int(self.segment.starts[row + 1]))
            return self.segment.terms[run], self.segment.weights[run]
        return self.all_rows().row(row)


def waiting(number: int, rows: Rows, ids: Ids) -> Part:
    """A batch as a part, before it has a segment."""
    return Part(((number, rows.count),), False, ids, rows, None, None, rows.count)


def joined(parts: Sequence[Part]) -> Part:
    """Waiting batches as one, deleted documents with them."""
    if len(parts) == 1:
        return parts[0]
    alive = None
    if any(part.alive is not None for part in parts):
        alive = bits.packed(np.concatenate([
            np.ones(part.documents, np.bool_) if part.alive is None
            else bits.flags(part.alive, part.documents) for part in parts]))
    pieces = tuple(piece for part in parts for piece in part.pieces)
    rows = stacked([part.all_rows() for part in parts])
    ids = concatenated([part.ids for part in parts])
    return Part(pieces, False, ids, rows, None, alive, sum(part.live for part in parts))


def stacked(rows: Sequence[Rows]) -> Rows:
    """Rows one after the other, over the largest of their vocabularies."""
    if len(rows) == 1:
        return rows[0]
    vocabulary = max(part.vocabulary for part in rows)
    kind = np.uint16 if vocabulary <= 1 << 16 else np.uint32
    offsets = np.cumsum([0, *(part.nnz for part in rows)])
    starts = np.concatenate(
        [[0], *(part.starts[1:] + offset for part, offset in zip(rows, offsets))])
    return Rows(
        starts.astype(np.int64),
        np.concatenate([part.terms.astype(kind, copy=False) for part in rows]),
        np.concatenate([part.weights for part in rows]), vocabulary,
    )
