"""Writer: the one who changes an index; every change is durable before it is acknowledged."""

from __future__ import annotations

import math
import threading
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np

from gossamer.core import DataError, StoreError
from gossamer.layout.rows import Rows
from gossamer.retrieval.index.catalogue import Catalogue, Change, State
from gossamer.retrieval.index.config import IndexConfig
from gossamer.retrieval.index.identifiers import Ids, checked, keys_of
from gossamer.retrieval.index.incoming import Batch, Incoming, incoming, to_bytes
from gossamer.retrieval.index.merge import deleted_since, living
from gossamer.retrieval.index.part import Part, waiting
from gossamer.retrieval.index.snapshot import Snapshot
from gossamer.retrieval.index.stored import gathered, new_segment, path_of

# More terms than this do not wait in the catalogue, and more do not go into one segment at once.
PENDING_TERMS = 1 << 22
SEGMENT_TERMS = 1 << 27
_SEARCHED_S = 2.0


class Writer:
    """Changes an index that lies in a folder, or in memory where ``folder`` is None.

    Args:
        folder: of segment files.
        catalogue: open for writing.
        config: settings of the index.
        state: of the catalogue.
        parts: that the catalogue names.
    """

    def __init__(
        self, folder: Path | None, catalogue: Catalogue, config: IndexConfig, state: State,
        parts: Sequence[Part],
    ) -> None:
        self.folder, self.catalogue, self.config = folder, catalogue, config
        self.lock = threading.RLock()
        self.merging = threading.Lock()
        self.state = state
        self.parts = tuple(parts)
        self.closed = False
        # When the last search was: while there are some, what is written is sorted right away and
        # no search waits for it.
        self.searched = -math.inf
        # Why the last segment could not be written, though what it should hold is safe.
        self.trouble: str | None = None
        self._snapshot: Snapshot | None = None

    def snapshot(self) -> Snapshot:
        """What a search sees that starts now."""
        snapshot = self._snapshot
        return snapshot if snapshot is not None else self._publish()

    def check(self, batch: Batch) -> Incoming:
        """A batch of new documents that may be added."""
        return incoming(batch, self.config, self.state.kind, self.state.next_id)

    def add(self, new: Incoming) -> list[Any]:
        """Keep new documents; returns their identifiers.

        Raises:
            DataError: an identifier is there already, or comes twice.
            StoreError: the disk refuses it; nothing was added.
        """
        with self.lock:
            self._open()
            _once(new.ids)
            for part in self.parts:
                rows = part.find(new.ids, keys_of(new.ids, new.kind))
                if (rows >= 0).any():
                    there = new.ids[int(np.argmax(rows >= 0))]
                    raise DataError(f"The id {there!r} is there already: use update to change it.")
            if new.ids:
                with self._change() as change:
                    parts = [*self.parts, *self._insert(change, new)]
                    change.put_payloads(new.ids, new.payloads)
                self._become(change.state, parts)
            return new.ids

    def update(self, new: Incoming, *, payloads: bool) -> list[Any]:
        """Put documents in the place of those with their identifiers, in one transaction.

        Raises:
            DataError: an identifier is not there, or comes twice.
            StoreError: the disk refuses it; nothing was changed.
        """
        with self.lock:
            self._open()
            _once(new.ids)
            found = np.zeros(len(new.ids), np.bool_)
            for part in self.parts:
                found |= part.find(new.ids, keys_of(new.ids, new.kind)) >= 0
            if not found.all():
                unknown = new.ids[int(np.argmin(found))]
                raise DataError(f"There is no document with the id {unknown!r}: use add.")
            if new.ids:
                with self._change() as change:
                    parts = self._delete(change, new.ids) + self._insert(change, new)
                    if payloads:
                        change.drop_payloads(new.ids)
                        change.put_payloads(new.ids, new.payloads)
                self._become(change.state, parts)
            return new.ids

    def delete(self, ids: Any) -> int:
        """Delete the documents with these identifiers; returns how many there were."""
        with self.lock:
            self._open()
            wanted, _ = checked(ids, self.state.kind)
            before = sum(part.live for part in self.parts)
            if not before or not wanted:
                return 0
            wanted = list(dict.fromkeys(wanted))
            keys = keys_of(wanted, self.state.kind or "int")
            if not any((part.find(wanted, keys) >= 0).any() for part in self.parts):
                return 0
            with self._change() as change:
                parts = self._delete(change, wanted)
                change.drop_payloads(wanted)
            self._become(change.state, parts)
            return before - sum(part.live for part in self.parts)

    def flush(self) -> None:
        """Put the batches that wait into a segment."""
        with self.lock:
            self._open()
            held = [part for part in self.parts if not part.stored]
            if not held:
                return
            with self._change() as change:
                stored = [part for part in self.parts if part.stored]
                if any(part.live for part in held):
                    stored += self._store_all(change, *living(held))
                self._drop(change, held)
            self.trouble = None
            self._become(change.state, stored)

    def merge(self, chosen: Sequence[Part]) -> None:
        """Put living documents of segments into one; searches and writes go on meanwhile.

        The caller holds ``merging``.

        Raises:
            StoreError: the disk refuses it; the index is as it was.
        """
        with self.lock:
            self._open()
            number = self.state.next_number
            self.state = replace(self.state, next_number=number + 1)
        merged: Part | None = None
        if any(part.live for part in chosen):
            merged = new_segment(self.folder, number, *living(chosen), self.config.weights)
        with self.lock:
            self._open()
            self._swap(chosen, merged)
        if self.folder is not None:
            for part in chosen:
                path_of(self.folder, part.source).unlink(missing_ok=True)

    def _swap(self, chosen: Sequence[Part], merged: Part | None) -> None:
        by_source = {part.source: part for part in self.parts}
        now = [by_source[part.source] for part in chosen]
        gone = {part.source for part in chosen}
        with self._change() as change:
            self._drop(change, now)
            if merged is not None:
                change.add_segment(merged.source, merged.documents)
                rows = deleted_since(chosen, now)
                if len(rows):
                    change.delete(merged.source, rows)
                    merged = merged.delete(rows)
        parts = [part for part in self.parts if part.source not in gone]
        self._become(change.state, parts if merged is None else [merged, *parts])

    def _insert(self, change: Change, new: Incoming) -> list[Part]:
        large = (new.rows.count >= self.config.pending_documents
                 or new.rows.nnz >= PENDING_TERMS)
        next_id = change.state.next_id
        if new.kind == "int":
            next_id = max(next_id, max(new.ids) + 1)
        change.state = replace(change.state, kind=new.kind, next_id=next_id)
        if large:
            return [self._store(change, piece.rows, Ids.of(piece.ids, piece.kind))
                    for piece in new.pieces(self.config.segment_documents, SEGMENT_TERMS)]
        number, ids = change.number(), Ids.of(new.ids, new.kind)
        if self.folder is not None:
            change.add_batch(number, to_bytes(new.rows, ids))
        return [waiting(number, new.rows, ids)]

    def _store(self, change: Change, rows: Rows, ids: Ids) -> Part:
        number = change.number()
        part = new_segment(self.folder, number, rows, ids, self.config.weights)
        change.add_segment(number, part.documents)
        return part

    def _store_all(self, change: Change, rows: Rows, ids: Ids) -> list[Part]:
        most = self.config.segment_documents
        if rows.count <= most:
            return [self._store(change, rows, ids)]
        edges = [*range(0, rows.count, most), rows.count]
        return [self._store(change, rows.take(a, b), ids.select(np.arange(a, b)))
                for a, b in pairwise(edges)]

    def _delete(self, change: Change, ids: list[Any]) -> list[Part]:
        keys = keys_of(ids, self.state.kind or "int")
        parts = []
        for part in self.parts:
            rows = part.find(ids, keys)
            rows = rows[rows >= 0]
            for number, places in part.located(rows):
                change.delete(number, places)
            parts.append(part.delete(rows) if len(rows) else part)
        return parts

    def _drop(self, change: Change, parts: Sequence[Part]) -> None:
        for part in parts:
            for number, _ in part.pieces:
                change.drop(number, stored=part.stored)

    @contextmanager
    def _change(self) -> Iterator[Change]:
        change, done = None, False
        try:
            with self.catalogue.change(self.state) as change:
                yield change
            done = True
        finally:
            if not done and change is not None:
                # Files of a transaction that failed stay until the next opening, and their numbers
                # are not used again: whether it failed for good is known only then.
                self.state = replace(self.state, next_number=change.state.next_number)

    def _become(self, state: State, parts: Sequence[Part]) -> None:
        self.state, self.parts = state, tuple(parts)
        held = [part for part in self.parts if not part.stored]
        terms = sum(part.rows.nnz for part in held if part.rows is not None)
        documents = sum(part.documents for part in held)
        if documents >= self.config.pending_documents or terms >= PENDING_TERMS:
            self._try_to_flush()
        elif time.monotonic() < self.searched + _SEARCHED_S:
            self._publish(anew=True)
        else:
            self._snapshot = None

    def _try_to_flush(self) -> None:
        # What waits is durable already: a disk that has no room for a segment loses nothing.
        # Searches see the snapshot before meanwhile.
        try:
            self.flush()
        except StoreError as error:
            self.trouble, self._snapshot = str(error), None

    def _publish(self, *, anew: bool = False) -> Snapshot:
        with self.lock:
            if self._snapshot is None or anew:
                self.parts = tuple(gathered(self.parts, self.config.weights))
                self._snapshot = Snapshot.of(self.parts, self.state.kind)
            return self._snapshot

    def _open(self) -> None:
        if self.closed:
            raise StoreError("The index is closed.")


def _once(ids: list[Any]) -> None:
    if len(set(ids)) != len(ids):
        raise DataError(f"The id {Counter(ids).most_common(1)[0][0]!r} comes twice.")
