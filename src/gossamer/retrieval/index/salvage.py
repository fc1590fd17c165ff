"""What a damaged catalogue still says, row by row."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gossamer.core import StoreError
from gossamer.retrieval.index.catalogue import checksum
from gossamer.retrieval.index.connection import connect


@dataclass(eq=False)
class Salvage:
    """Rows with right checksums.

    Args:
        config: settings.
        segments: numbers; None where the list could not be read.
        batches: bytes by number.
        deleted: documents by number of their segment or batch.
        payloads: by identifier.
        problems: a sentence for each thing that could not be read.
    """

    config: dict[str, Any] = field(default_factory=dict)
    segments: set[int] | None = None
    batches: dict[int, bytes] = field(default_factory=dict)
    deleted: dict[int, NDArray[np.uint32]] = field(default_factory=dict)
    payloads: dict[Any, Any] = field(default_factory=dict)
    problems: list[str] = field(default_factory=list)


def salvage(path: Path) -> Salvage:
    """Read what can be read of a catalogue."""
    left = Salvage()
    try:
        if not path.is_file():
            raise StoreError(f"{path} is missing.")
        sql = connect(path, writable=False)
    except StoreError as error:
        left.problems.append(f"The catalogue cannot be read: {error}")
        return left
    try:
        _read(sql, left)
    finally:
        sql.close()
    return left


def _read(sql: sqlite3.Connection, left: Salvage) -> None:
    problems = left.problems
    for name, body in _rows(sql, "meta", "name, body", problems):
        if name == "config":
            left.config = json.loads(body)
    before = len(problems)
    segments = {number for number, _ in _rows(sql, "segments", "number, documents", problems)}
    left.segments = segments if len(problems) == before else None
    left.batches = dict(_rows(sql, "batches", "number, body", problems))
    deleted: dict[int, list[NDArray[np.uint32]]] = {}
    for number, body in _rows(sql, "deleted", "number, body", problems):
        deleted.setdefault(number, []).append(np.frombuffer(body, "<u4"))
    left.deleted = {number: np.concatenate(parts) for number, parts in deleted.items()}
    left.payloads = {one: json.loads(body)
                     for one, body in _rows(sql, "payloads", "id, body", problems)}


def _rows(
    sql: sqlite3.Connection, table: str, columns: str, problems: list[str],
) -> Iterator[tuple[Any, Any]]:
    bad = 0
    try:
        for first, second, crc in sql.execute(f"SELECT {columns}, crc FROM {table}"):
            if checksum(first, second) == crc:
                yield first, second
            else:
                bad += 1
    except sqlite3.Error as error:
        problems.append(f"The table of {table} cannot be read to its end: {error}.")
    if bad:
        problems.append(f"{bad} rows of {table} have a wrong checksum and are left out.")
