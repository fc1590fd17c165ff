"""The documents of an index, a batch at a time, for writing them elsewhere."""

from __future__ import annotations

from collections.abc import Iterator

from gossamer.core import ConfigError
from gossamer.retrieval.exchange.batch import Batch
from gossamer.retrieval.index import SparseIndex
from gossamer.retrieval.index.beside import payloads_of


def documents_of(index: SparseIndex, size: int = 4096, payloads: bool = True) -> Iterator[Batch]:
    """Batches of at most ``size`` documents, with the weights that they are scored by.

    What is deleted meanwhile is still there, since they are read from one snapshot; its payload is
    not. Memory is needed for the rows of one segment.

    Raises:
        ConfigError: the size is not positive.
    """
    if size < 1:
        raise ConfigError(f"A batch of {size} documents is not possible: take 1 or more.")
    for part in index.search([], k=1).snapshot.parts:
        rows, ids = part.living()
        names = part.living_ids()
        for first in range(0, len(ids), size):
            last = min(first + size, len(ids))
            some = names[first:last]
            kept = payloads_of(index, some) if payloads else None
            yield Batch(some, rows.take(first, last), kept)
