"""What comes in: rows, identifiers and payloads of new documents, checked before any is kept."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from gossamer.core import DataError
from gossamer.layout.rows import Rows, as_rows
from gossamer.retrieval.index.config import IndexConfig
from gossamer.retrieval.index.identifiers import Ids, Kind, checked
from gossamer.retrieval.index.segment_file import decode, encode

_MOST_HALF = 65504.0
# The largest vocabulary that comes without being asked for.
MOST_TERMS = 1 << 20


@dataclass(frozen=True, eq=False)
class Batch:
    """Documents for a build that reads them piece by piece.

    Args:
        rows: whatever `gossamer.layout.rows.as_rows` reads.
        ids: an identifier for each; None numbers them.
        payloads: what is kept beside each, JSON-able, or None.
    """

    rows: Any
    ids: Iterable[Any] | None = None
    payloads: Iterable[Any] | None = None


@dataclass(frozen=True, eq=False)
class Incoming:
    """A batch that may be kept as it is.

    Args:
        rows: its documents.
        ids: as the user gave them, or as they were numbered.
        kind: of the identifiers.
        payloads: JSON texts, None where a document has none; an empty list where none has.
    """

    rows: Rows
    ids: list[Any]
    kind: Kind
    payloads: list[str | None]

    def take(self, first: int, last: int) -> Incoming:
        """Documents ``first`` to ``last - 1``."""
        return Incoming(self.rows.take(first, last), self.ids[first:last], self.kind,
                        self.payloads[first:last])

    def pieces(self, documents: int, terms: int) -> Iterator[Incoming]:
        """The same in order, in pieces of at most so many documents and about so many terms."""
        first = 0
        while first < self.rows.count:
            last = int(np.searchsorted(self.rows.starts, self.rows.starts[first] + terms, "right"))
            last = min(max(last - 1, first + 1), first + documents, self.rows.count)
            yield self.take(first, last)
            first = last


def incoming(batch: Batch, config: IndexConfig, kind: Kind | None, next_id: int) -> Incoming:
    """Check a batch.

    Raises:
        DataError: a row, an identifier or a payload that cannot be kept, or not as many of one as
            of another.
    """
    rows = as_rows(batch.rows, config.vocabulary)
    if config.vocabulary is None and rows.vocabulary > MOST_TERMS:
        raise DataError(
            f"These documents have a vocabulary of {rows.vocabulary} terms. A segment takes 96 "
            f"bytes for each: more than {MOST_TERMS} have to be asked for by "
            "IndexConfig(vocabulary=...)."
        )
    if config.weights == "float16" and rows.nnz and float(rows.weights.max()) > _MOST_HALF:
        raise DataError(
            f"A weight of {float(rows.weights.max())} is too large for float16 (65504); keep "
            "weights as float32 or scale them."
        )
    if batch.ids is None:
        if kind == "str":
            raise DataError("The ids of this index are strings: give one for each document.")
        if next_id + rows.count > 2**63 - 1:
            raise DataError("The largest id is in use: give ids to new documents.")
        ids, kind = list(range(next_id, next_id + rows.count)), "int"
    else:
        ids, kind = checked(batch.ids, kind)
        if len(ids) != rows.count:
            raise DataError(f"There are {rows.count} documents but {len(ids)} ids.")
    return Incoming(rows, ids, kind, _texts(batch.payloads, rows.count))


def _texts(payloads: Iterable[Any] | None, count: int) -> list[str | None]:
    if payloads is None:
        return []
    if isinstance(payloads, (str, bytes)) or not isinstance(payloads, Iterable):
        raise DataError(f"Payloads are a list with one for each document, not {payloads!r}.")
    texts: list[str | None] = []
    for i, payload in enumerate(payloads):
        try:
            text = None if payload is None else json.dumps(payload, allow_nan=False)
        except (TypeError, ValueError) as error:
            raise DataError(f"Payload {i} cannot be kept as JSON: {error}.") from None
        texts.append(text)
    if len(texts) != count:
        raise DataError(f"There are {count} documents but {len(texts)} payloads.")
    return texts if any(text is not None for text in texts) else []


def to_bytes(rows: Rows, ids: Ids) -> bytes:
    """Documents as one piece of bytes that carries its own checksums."""
    arrays = {"starts": rows.starts, "terms": rows.terms, "weights": rows.weights,
              "vocabulary": np.array([rows.vocabulary], np.int64), **ids.arrays()}
    return b"".join(encode(arrays))


def from_bytes(body: bytes, name: str) -> tuple[Rows, Ids]:
    """Documents from their bytes.

    Raises:
        StoreError: the bytes are damaged.
    """
    arrays = decode(body, name)
    rows = Rows(arrays["starts"], arrays["terms"], arrays["weights"], int(arrays["vocabulary"][0]))
    return rows, Ids.read(arrays, rows.count)
