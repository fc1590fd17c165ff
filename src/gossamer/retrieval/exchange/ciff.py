"""Common Index File Format: posting lists of whole impacts, as Lucene, PISA, BMP and JASS read.

Impacts are whole numbers there, so that weights are multiplied by a scale (100 unless told
otherwise) and rounded; a weight that would round to nothing becomes 1. Payloads have no place in
the format. It lies by terms and an index by documents, so that all postings are held in memory to
turn them, 12 bytes each.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gossamer.core import DataError, StoreError
from gossamer.core.atomic import replacing
from gossamer.layout.rows import Rows, as_rows
from gossamer.retrieval.exchange import ciff_messages as messages
from gossamer.retrieval.exchange import varints
from gossamer.retrieval.exchange.batch import Batch, Ids, Options
from gossamer.retrieval.exchange.lexicon import Terms

SCALE = 100.0
_MOST = 2**31 - 1
_DIGITS = 19


def read(path: Path, terms: Terms, options: Options) -> Iterator[Batch]:
    """Batches of ``options.batch`` documents, impacts divided by ``options.scale``.

    Ids that are whole numbers throughout come back as integers.

    Raises:
        StoreError: there is no such file.
        DataError: the file is damaged, of another version, or has a token that is not known.
    """
    if not path.is_file():
        raise StoreError(f"There is no file {path}.")
    data = (np.memmap(path, np.uint8, "r") if path.stat().st_size else np.empty(0, np.uint8))
    found = _delimited(data)
    header = messages.Header.decode(_next(found))
    docids: list[NDArray[np.uint32]] = []
    numbers: list[NDArray[np.uint32]] = []
    impacts: list[NDArray[np.float32]] = []
    for _ in range(header.lists):
        token, docs, tfs = messages.read_posting_list(_next(found))
        if len(docs) and int(docs[-1]) >= header.documents:
            raise DataError(f"The list of {token!r} names document {docs[-1]} of "
                            f"{header.documents}: the file is damaged.")
        docids.append(docs.astype(np.uint32))
        numbers.append(np.full(len(docs), terms.number(token), np.uint32))
        impacts.append(tfs.astype(np.float32))
    ids = _names(found, header.documents)
    rows = _turned(header.documents, _joined(docids, np.uint32), _joined(numbers, np.uint32),
                   _joined(impacts, np.float32) / np.float32(options.scaled(1.0)), terms.size)
    for first in range(0, rows.count, options.batch):
        last = min(first + options.batch, rows.count)
        yield Batch(ids[first:last], rows.take(first, last))


def write(
    path: Path, batches: Iterable[Batch], terms: Terms, options: Options,
) -> int:
    """Write lists and names of documents; the number of documents.

    Raises:
        DataError: an impact does not fit 31 bits.
    """
    ids, docids, numbers, impacts = _gathered(batches, options.scaled(SCALE))
    lengths = np.bincount(docids, impacts, len(ids)).astype(np.int64)
    order = np.argsort(numbers, kind="stable")
    docids, numbers, impacts = docids[order], numbers[order], impacts[order]
    present, first = np.unique(numbers, return_index=True)
    last = np.append(first[1:], len(numbers))
    named = sorted((terms.token(int(t)), int(a), int(b)) for t, a, b in zip(present, first, last))
    header = messages.Header(
        len(named), len(ids), int(lengths.sum()), float(lengths.mean()) if len(ids) else 0.0,
        f"gossamer, impacts are weights times {options.scaled(SCALE):g}")
    with replacing(path) as part, part.open("wb") as file:
        file.write(header.encode())
        for token, a, b in named:
            file.write(messages.posting_list(token, docids[a:b].astype(np.int64), impacts[a:b]))
        for docid, (id, length) in enumerate(zip(ids, lengths.tolist())):
            file.write(messages.document(docid, str(id), length))
    return len(ids)


def _gathered(
    batches: Iterable[Batch], scale: float,
) -> tuple[list[Any], NDArray[np.uint32], NDArray[np.uint32], NDArray[np.int64]]:
    ids: list[Any] = []
    docids, numbers, impacts = [], [], []
    for batch in batches:
        rows = batch.rows
        docs = np.repeat(np.arange(len(ids), len(ids) + rows.count), np.diff(rows.starts))
        docids.append(docs.astype(np.uint32))
        numbers.append(rows.terms.astype(np.uint32))
        wide = np.maximum(1, np.rint(rows.weights.astype(np.float64) * scale))
        if rows.nnz and float(wide.max()) > _MOST:
            raise DataError(f"An impact of {wide.max():.0f} does not fit: give a smaller scale.")
        impacts.append(wide.astype(np.int32))
        ids.extend(batch.ids)
    return (ids, _joined(docids, np.uint32), _joined(numbers, np.uint32),
            _joined(impacts, np.int32).astype(np.int64))


def _joined(parts: list[NDArray[Any]], kind: type) -> NDArray[Any]:
    return np.concatenate(parts) if parts else np.empty(0, kind)


def _turned(
    count: int, docids: NDArray[np.uint32], numbers: NDArray[np.uint32],
    weights: NDArray[np.float32], size: int | None,
) -> Rows:
    order = np.argsort(docids, kind="stable")
    starts = np.concatenate(([0], np.cumsum(np.bincount(docids, minlength=count))))
    return as_rows((starts, numbers[order], weights[order]), size)


def _delimited(data: NDArray[np.uint8]) -> Iterator[NDArray[np.uint8]]:
    at = 0
    while at < len(data):
        length, at = varints.read_one(data, at)
        if at + length > len(data):
            raise DataError("A message is longer than the file: it is cut short or damaged.")
        yield data[at:at + length]
        at += length


def _next(found: Iterator[NDArray[np.uint8]]) -> NDArray[np.uint8]:
    message = next(found, None)
    if message is None:
        raise DataError("The file has fewer messages than its header says: it is cut short.")
    return message


def _names(found: Iterator[NDArray[np.uint8]], count: int) -> Ids:
    names: dict[int, str] = {}
    for _ in range(count):
        docid, name = messages.read_document(_next(found))
        names[docid] = name
    if sorted(names) != list(range(count)):
        raise DataError(f"The documents are not numbered from 0 to {count - 1}, each once.")
    texts = [names[docid] for docid in range(count)]
    if all(text.isascii() and text.isdigit() and len(text) <= _DIGITS and str(int(text)) == text
           and int(text) < 1 << 63 for text in texts):
        return [int(text) for text in texts]
    return texts
