"""The four messages of the Common Index File Format, as bytes.

Lin and others, "Supporting Interoperability Between Open-Source Search Engines with the Common
Index File Format", SIGIR 2020. As protocol buffers (version 3) have it, fields of zero are left
out, and fields may come in any order.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from gossamer.core import DataError
from gossamer.retrieval.exchange import varints

Bytes = NDArray[np.uint8]
_POSTING, _DOCID, _TF = 0x22, 0x08, 0x10


@dataclass(frozen=True)
class Header:
    """What comes first in a file."""

    lists: int
    documents: int
    total_terms: int = 0
    average_length: float = 0.0
    description: str = ""

    def encode(self) -> bytes:
        """Its bytes, with the length in front."""
        average = struct.pack("<d", self.average_length) if self.average_length else b""
        return delimited(
            number(1, 1) + number(2, self.lists) + number(3, self.documents)
            + number(4, self.lists) + number(5, self.documents) + number(6, self.total_terms)
            + (b"\x39" + average if average else b"") + text(8, self.description))

    @classmethod
    def decode(cls, message: Bytes) -> Header:
        """From the bytes of a message."""
        found = dict(fields(message))
        if found.get(1) != 1:
            raise DataError(f"CIFF of version {found.get(1, 0)} is not known; version 1 is.")
        return cls(integer(found, 2), integer(found, 3))


def posting_list(token: str, docids: NDArray[np.int64], tfs: NDArray[np.int64]) -> bytes:
    """A message of one list, with the length in front; docids rise."""
    gaps = np.diff(docids, prepend=0).astype(np.uint64)
    impacts = tfs.astype(np.uint64)
    sizes = 2 * (gaps > 0) + 2 * (impacts > 0)
    sizes += (varints.lengths_of(gaps) - 1) * (gaps > 0) + (varints.lengths_of(impacts) - 1)
    tokens = np.empty((len(gaps), 6), np.uint64)
    tokens[:, 0], tokens[:, 1], tokens[:, 2] = _POSTING, sizes, _DOCID
    tokens[:, 3], tokens[:, 4], tokens[:, 5] = gaps, _TF, impacts
    kept = np.ones(tokens.shape, bool)
    kept[:, 2:4] = (gaps > 0)[:, None]
    body, _ = varints.encode(tokens[kept])
    return delimited(text(1, token) + number(2, len(docids)) + number(3, int(tfs.sum()))
                     + body.tobytes())


def read_posting_list(message: Bytes) -> tuple[str, NDArray[np.int64], NDArray[np.int64]]:
    """Token, docids and impacts of a list."""
    token, at = "", 0
    while at < len(message) and message[at] != _POSTING:
        field, value, at = one_field(message, at)
        if field == 1:
            token = string(value)
    gaps, impacts = _postings(message[at:])
    if (impacts < 1).any() or (gaps < 0).any() or (gaps[1:] < 1).any():
        raise DataError(f"The list of {token!r} has impacts or docids that do not rise from 0.")
    return token, np.cumsum(gaps), impacts


def _postings(data: Bytes) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Gaps and impacts, all at once where they are written the usual way."""
    values, lengths = varints.decode(data)
    # The first document's number may be zero, which is left out.
    short = len(values) >= 4 and values[0] == _POSTING and values[2] == _TF
    lead = 4 if short else 0
    rest = values[lead:]
    if len(rest) % 6 == 0:
        table = rest.reshape(-1, 6)
        sizes = lengths[lead:].reshape(-1, 6)[:, 2:].sum(1)
        usual = (table[:, 0] == _POSTING) & (table[:, 2] == _DOCID) & (table[:, 4] == _TF)
        if usual.all() and (table[:, 1] == sizes.astype(np.uint64)).all():
            gaps, impacts = table[:, 3].astype(np.int64), table[:, 5].astype(np.int64)
            if not short:
                return gaps, impacts
            if values[1] == 1 + lengths[3]:
                return (np.concatenate(([0], gaps)),
                        np.concatenate((values[3:4].astype(np.int64), impacts)))
    return _postings_one_by_one(data)


def _postings_one_by_one(data: Bytes) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    gaps, impacts = [], []
    for field, value in fields(data):
        if field == 4:
            if isinstance(value, int):
                raise DataError("A posting is no message: the file is damaged.")
            found = dict(fields(value))
            gaps.append(integer(found, 1))
            impacts.append(integer(found, 2))
    return np.array(gaps, np.int64), np.array(impacts, np.int64)


def document(docid: int, name: str, length: int) -> bytes:
    """A message of one document, with the length in front."""
    return delimited(number(1, docid) + text(2, name) + number(3, length))


def read_document(message: Bytes) -> tuple[int, str]:
    """Number and name of a document."""
    found = dict(fields(message))
    return integer(found, 1), string(found.get(2, np.empty(0, np.uint8)))


def fields(message: Bytes) -> Iterator[tuple[int, int | Bytes]]:
    """Number and value of each field: integers, or bytes of strings and messages."""
    at = 0
    while at < len(message):
        field, value, at = one_field(message, at)
        yield field, value


def one_field(message: Bytes, at: int) -> tuple[int, int | Bytes, int]:
    """Number and value of the field at a place, and the place behind it."""
    tag, at = varints.read_one(message, at)
    kind = tag & 7
    if kind == 0:
        value, at = varints.read_one(message, at)
        return tag >> 3, value, at
    if kind == 2:
        length, at = varints.read_one(message, at)
    elif kind in (1, 5):
        length = 8 if kind == 1 else 4
    else:
        raise DataError(f"A field is of kind {kind}, which CIFF does not have: it is damaged.")
    if at + length > len(message):
        raise DataError("A field is longer than its message: the file is damaged.")
    return tag >> 3, message[at:at + length], at + length


def integer(found: dict[int, int | Bytes], field: int) -> int:
    """An integer field, 0 where it was left out."""
    value = found.get(field, 0)
    if not isinstance(value, int) or value >= 1 << 31:
        raise DataError(f"Field {field} of a message is no number in range: the file is damaged.")
    return value


def string(value: int | Bytes) -> str:
    """A field as text."""
    if isinstance(value, int):
        raise DataError("A name is a number: the file is damaged.")
    try:
        return value.tobytes().decode("utf-8")
    except UnicodeDecodeError:
        raise DataError("A name is not UTF-8: the file is damaged.") from None


def number(field: int, value: int) -> bytes:
    """An integer field; nothing where it is zero."""
    return varints.one(field << 3) + varints.one(value) if value else b""


def text(field: int, value: str) -> bytes:
    """A string field; nothing where it is empty."""
    data = value.encode("utf-8")
    return varints.one(field << 3 | 2) + varints.one(len(data)) + data if data else b""


def delimited(message: bytes) -> bytes:
    """A message with its length in front."""
    return varints.one(len(message)) + message
