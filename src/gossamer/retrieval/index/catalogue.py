"""Catalogue: the SQLite file that says what an index consists of.

It holds the settings, the list of segments, the batches that wait for one, the documents that were
deleted, and the payloads. Every change is one transaction, durable when it returns (write-ahead
log, full synchronisation). Each row carries a CRC-32 and the state row counts the rows of the other
tables, since SQLite has no checksums of its own.
"""

from __future__ import annotations

import json
import sqlite3
import threading
import zlib
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gossamer.core import StoreError
from gossamer.retrieval.index.connection import connect, explained_sql, readable
from gossamer.retrieval.index.identifiers import Kind

FORMAT = 1
NAME = "catalogue.db"
_VARIABLES = 500  # of one statement; SQLite takes 999 at least
_SCHEMA = (
    "CREATE TABLE meta (name TEXT PRIMARY KEY, body TEXT NOT NULL, crc INTEGER NOT NULL)",
    "CREATE TABLE segments (number INTEGER PRIMARY KEY, documents INTEGER NOT NULL,"
    " crc INTEGER NOT NULL)",
    "CREATE TABLE batches (number INTEGER PRIMARY KEY, body BLOB NOT NULL, crc INTEGER NOT NULL)",
    "CREATE TABLE deleted (step INTEGER PRIMARY KEY, number INTEGER NOT NULL, body BLOB NOT NULL,"
    " crc INTEGER NOT NULL)",
    "CREATE INDEX deleted_of ON deleted (number)",
    "CREATE TABLE payloads (id PRIMARY KEY, body TEXT NOT NULL, crc INTEGER NOT NULL)"
    " WITHOUT ROWID",
)
_COUNTED = (
    ("segments", "SELECT number, documents, crc FROM segments ORDER BY number"),
    ("batches", "SELECT number, body, crc FROM batches ORDER BY number"),
    ("deleted", "SELECT number, body, crc FROM deleted ORDER BY step"),
)


@dataclass(frozen=True)
class State:
    """The row that changes with every transaction.

    Args:
        generation: number of transactions so far.
        next_number: of the next batch or segment.
        next_id: of the next document that comes without one.
        kind: of the identifiers; None while there are none.
        counts: rows of the tables of segments, batches and deletions.
    """

    generation: int = 0
    next_number: int = 1
    next_id: int = 0
    kind: Kind | None = None
    counts: tuple[int, int, int] = (0, 0, 0)


@dataclass(frozen=True)
class Contents:
    """All of a catalogue but the payloads, as one moment saw it.

    Args:
        state: the state row.
        config: settings as plain values.
        knobs: tuned knobs as plain values, or None.
        segments: (number, documents).
        batches: (number, bytes of its arrays).
        deleted: documents that were deleted from each segment or batch.
    """

    state: State
    config: dict[str, Any]
    knobs: dict[str, Any] | None
    segments: list[tuple[int, int]] = field(default_factory=list)
    batches: list[tuple[int, bytes]] = field(default_factory=list)
    deleted: dict[int, NDArray[np.uint32]] = field(default_factory=dict)


class Catalogue:
    """An open catalogue; ``path`` None keeps it in memory."""

    def __init__(self, path: Path | None, *, writable: bool) -> None:
        self.path = path
        self.name = "the index" if path is None else str(path)
        self._lock = threading.RLock()
        self._connection = connect(path, writable=writable)

    def create(self, config: dict[str, Any], version: str) -> None:
        """Make the tables of an empty index, whose format ``version`` can read."""
        with self._transaction() as sql:
            for statement in _SCHEMA:
                sql.execute(statement)
            self._put("format", {"format": FORMAT, "install": version})
            self._put("config", config)
            self._put("state", asdict(State()))

    def read(self) -> Contents:
        """Everything but the payloads, in one transaction, every row checked.

        Raises:
            StoreError: the catalogue is damaged, or of a newer version.
        """
        with self._lock, explained_sql(self.name):
            self._connection.execute("BEGIN")
            try:
                with readable(self.name):
                    return self._read()
            finally:
                self._connection.execute("ROLLBACK")

    def generation(self) -> int:
        """The number of the last transaction."""
        with self._lock, explained_sql(self.name), readable(self.name):
            return int(self._get("state")["generation"])

    @contextmanager
    def change(self, state: State) -> Iterator[Change]:
        """One transaction: all of it, durable on leaving, or with an error nothing of it."""
        with self._transaction() as sql:
            change = Change(sql, state)
            yield change
            done = replace(change.state, generation=state.generation + 1)
            change.state = done
            self._put("state", asdict(done))

    def put_knobs(self, knobs: dict[str, Any]) -> None:
        """Store tuned knobs."""
        with self._transaction():
            self._put("knobs", knobs)

    def payload(self, identifier: Any) -> Any:
        """The payload of a document, or None."""
        with self._lock, explained_sql(self.name):
            row = self._connection.execute(
                "SELECT id, body, crc FROM payloads WHERE id = ?", (identifier,)).fetchone()
        return None if row is None else self._payload(*row)[1]

    def payloads_of(self, ids: Sequence[Any]) -> list[Any]:
        """The payload of each of some documents, None where there is none."""
        found: dict[Any, Any] = {}
        for first in range(0, len(ids), _VARIABLES):
            some = ids[first:first + _VARIABLES]
            marks = ", ".join("?" * len(some))
            with self._lock, explained_sql(self.name):
                rows = self._connection.execute(
                    f"SELECT id, body, crc FROM payloads WHERE id IN ({marks})", some).fetchall()
            found.update(self._payload(*row) for row in rows)
        return [found.get(one) for one in ids]

    def payloads(self) -> Iterator[tuple[Any, Any]]:
        """(identifier, payload) of all documents that have one."""
        last: tuple[Any, ...] = ()
        while True:
            after = "WHERE id > ?" if last else ""
            with self._lock, explained_sql(self.name):
                rows = self._connection.execute(
                    f"SELECT id, body, crc FROM payloads {after} ORDER BY id LIMIT 1000",
                    last).fetchall()
            if not rows:
                return
            for row in rows:
                yield self._payload(*row)
            last = (rows[-1][0],)

    def problems(self) -> list[str]:
        """What SQLite's own check of the whole file finds."""
        with self._lock, explained_sql(self.name):
            rows = self._connection.execute("PRAGMA integrity_check").fetchall()
        return [] if rows == [("ok",)] else [f"{self.name}: {row[0]}" for row in rows]

    def copy(self, path: Path) -> None:
        """Write all of it, as of now, into a new file."""
        target = connect(path, writable=True)
        try:
            with self._lock, explained_sql(self.name):
                self._connection.backup(target)
        finally:
            target.close()

    def bytes(self) -> int:
        """Bytes of its pages."""
        with self._lock, explained_sql(self.name):
            pages, size = (self._connection.execute(f"PRAGMA {name}").fetchone()[0]
                           for name in ("page_count", "page_size"))
        return int(pages * size)

    def close(self) -> None:
        """Close it; what was written goes from the log into the file."""
        with self._lock:
            self._connection.close()

    @contextmanager
    def _transaction(self) -> Iterator[sqlite3.Connection]:
        with self._lock, explained_sql(self.name):
            self._connection.execute("BEGIN IMMEDIATE")
            done = False
            try:
                yield self._connection
                self._connection.execute("COMMIT")
                done = True
            finally:
                if not done and self._connection.in_transaction:
                    self._connection.execute("ROLLBACK")

    def _read(self) -> Contents:
        shape = self._get("format")
        if shape["format"] > FORMAT:
            raise StoreError(
                f"{self.name} has format {shape['format']} and this gossamer reads up to {FORMAT}: "
                f"install gossamer {shape['install']} or newer."
            )
        value = self._get("state")
        state = State(**{**value, "counts": tuple(value["counts"])})
        knobs = self._get("knobs", needed=False)
        rows = [self._rows(*each) for each in _COUNTED]
        if tuple(map(len, rows)) != state.counts:
            raise self._damaged("rows are missing")
        pieces: dict[int, list[NDArray[np.uint32]]] = {}
        for number, body in rows[2]:
            pieces.setdefault(number, []).append(np.frombuffer(body, "<u4"))
        return Contents(
            state, self._get("config"), knobs or None, rows[0], rows[1],
            {number: np.concatenate(parts) for number, parts in pieces.items()},
        )

    def _rows(self, table: str, query: str) -> list[Any]:
        rows = self._connection.execute(query).fetchall()
        for *values, crc in rows:
            if checksum(*values) != crc:
                raise self._damaged(f"a row of {table} has a wrong checksum")
        return [tuple(row[:-1]) for row in rows]

    def _get(self, name: str, *, needed: bool = True) -> dict[str, Any]:
        row = self._connection.execute(
            "SELECT body, crc FROM meta WHERE name = ?", (name,)).fetchone()
        if row is None and not needed:
            return {}
        if row is None or checksum(name, row[0]) != row[1]:
            raise self._damaged(f"its row of {name} is missing or wrong")
        value: dict[str, Any] = json.loads(row[0])
        return value

    def _put(self, name: str, value: dict[str, Any]) -> None:
        body = json.dumps(value)
        self._connection.execute(
            "INSERT OR REPLACE INTO meta VALUES (?, ?, ?)", (name, body, checksum(name, body)))

    def _payload(self, identifier: Any, body: Any, crc: int) -> tuple[Any, Any]:
        if checksum(identifier, body) != crc:
            raise self._damaged(f"the payload of {identifier!r} has a wrong checksum")
        with readable(self.name):
            return identifier, json.loads(body)

    def _damaged(self, why: str) -> StoreError:
        return StoreError(
            f"{self.name} is damaged: {why}; restore it from a copy or recover the index.")


class Change:
    """What one transaction does; leave `Catalogue.change` to make it durable."""

    def __init__(self, sql: sqlite3.Connection, state: State) -> None:
        self._sql = sql
        self.state = state

    def number(self) -> int:
        """A number for a new batch or segment."""
        number = self.state.next_number
        self.state = replace(self.state, next_number=number + 1)
        return number

    def add_segment(self, number: int, documents: int) -> None:
        """Name a segment file that lies in the folder."""
        self._sql.execute("INSERT INTO segments VALUES (?, ?, ?)",
                          (number, documents, checksum(number, documents)))
        self._count(0, 1)

    def add_batch(self, number: int, body: bytes) -> None:
        """Keep documents that wait for a segment."""
        self._sql.execute("INSERT INTO batches VALUES (?, ?, ?)",
                          (number, body, checksum(number, body)))
        self._count(1, 1)

    def drop(self, number: int, *, stored: bool) -> None:
        """Forget a segment or a batch, and what was deleted from it."""
        table = "segments" if stored else "batches"
        gone = self._sql.execute(f"DELETE FROM {table} WHERE number = ?", (number,)).rowcount
        self._count(0 if stored else 1, -gone)
        gone = self._sql.execute("DELETE FROM deleted WHERE number = ?", (number,)).rowcount
        self._count(2, -gone)

    def delete(self, number: int, rows: NDArray[np.integer[Any]]) -> None:
        """Note that documents of a segment or batch are gone."""
        body = rows.astype("<u4").tobytes()
        self._sql.execute("INSERT INTO deleted (number, body, crc) VALUES (?, ?, ?)",
                          (number, body, checksum(number, body)))
        self._count(2, 1)

    def drop_payloads(self, ids: Iterable[Any]) -> None:
        """Forget payloads."""
        self._sql.executemany("DELETE FROM payloads WHERE id = ?", ((one,) for one in ids))

    def put_payloads(self, ids: Sequence[Any], bodies: Sequence[str | None]) -> None:
        """Keep payloads, as JSON; None is none."""
        self._sql.executemany(
            "INSERT OR REPLACE INTO payloads VALUES (?, ?, ?)",
            ((one, body, checksum(one, body)) for one, body in zip(ids, bodies)
             if body is not None))

    def _count(self, table: int, by: int) -> None:
        counts = list(self.state.counts)
        counts[table] += by
        self.state = replace(self.state, counts=(counts[0], counts[1], counts[2]))


def checksum(*values: Any) -> int:
    """CRC-32 of the values of a row."""
    total = 0
    for value in values:
        data = value if isinstance(value, bytes) else repr(value).encode("utf-8", "surrogatepass")
        total = zlib.crc32(data, zlib.crc32(len(data).to_bytes(8, "little"), total))
    return total
