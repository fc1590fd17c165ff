"""Building: documents from one piece or from a stream, in the memory of one segment."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

from gossamer.retrieval.index.config import IndexConfig
from gossamer.retrieval.index.folder import create
from gossamer.retrieval.index.incoming import Batch, Incoming, incoming
from gossamer.retrieval.index.part import stacked
from gossamer.retrieval.index.writer import SEGMENT_TERMS, Writer

Progress = Callable[[int, int, str], None]


def fill(
    folder: Path | None, config: IndexConfig, batches: Iterable[Batch], total: int,
    progress: Progress | None,
) -> Writer:
    """A new index of batches, put together to segments as large as the settings allow.

    Args:
        folder: that exists, or None for an index in memory.
        config: settings.
        batches: read one at a time.
        total: documents that will come; 0 where that is not known.
        progress: called with the documents done, the total and a text.
    """
    catalogue = create(folder, config)
    writer = Writer(folder, catalogue, config, catalogue.read().state, ())
    done = False
    try:
        _fill(writer, batches, total, progress)
        done = True
    finally:
        if not done:
            catalogue.close()
    return writer


def _fill(writer: Writer, batches: Iterable[Batch], total: int, progress: Progress | None) -> None:
    held: list[Incoming] = []
    most = writer.config.segment_documents
    documents = terms = done = 0
    for batch in batches:
        kind = held[0].kind if held else writer.state.kind
        new = incoming(batch, writer.config, kind, writer.state.next_id + documents)
        held.append(new)
        documents, terms = documents + new.rows.count, terms + new.rows.nnz
        if documents < most and terms < SEGMENT_TERMS:
            continue
        whole = together(held)
        full = documents - documents % most if terms < SEGMENT_TERMS else documents
        writer.add(whole.take(0, full))
        held = [whole.take(full, documents)] if full < documents else []
        documents, done = documents - full, done + full
        terms = held[0].rows.nnz if held else 0
        if progress is not None:
            progress(done, max(total, done), "documents sorted")
    if held:
        writer.add(together(held))
        writer.flush()
        if progress is not None:
            progress(done + documents, max(total, done + documents), "documents sorted")


def batches_of(
    rows: Any, ids: Iterable[Any] | None, payloads: Iterable[Any] | None,
) -> Iterator[Batch]:
    """What `SparseIndex.build` was given, as batches."""
    if not is_stream(rows):
        yield Batch(rows, ids, payloads)
        return
    for each in rows:
        yield each if isinstance(each, Batch) else Batch(each)


def is_stream(rows: Any) -> bool:
    """Whether rows come batch by batch from an iterator."""
    return hasattr(rows, "__next__")


def together(held: list[Incoming]) -> Incoming:
    """Batches as one."""
    if len(held) == 1:
        return held[0]
    ids = [identifier for one in held for identifier in one.ids]
    payloads: list[str | None] = []
    if any(one.payloads for one in held):
        for one in held:
            payloads += one.payloads or [None] * len(one.ids)
    return Incoming(stacked([one.rows for one in held]), ids, held[0].kind, payloads)
