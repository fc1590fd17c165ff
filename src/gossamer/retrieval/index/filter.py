"""Filter: the documents that a search may find."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from gossamer.retrieval.index.bits import Bits
from gossamer.retrieval.index.snapshot import Snapshot


class Filter:
    """Identifiers of documents that may be found, looked up once for each snapshot.

    Made by `SparseIndex.prepare`; costs nothing in further searches until the index changes.
    """

    def __init__(self, ids: Sequence[Any]) -> None:
        self.ids = tuple(ids)
        self._seen: tuple[Snapshot, list[Bits], int] | None = None

    def bits_for(self, snapshot: Snapshot) -> tuple[list[Bits], int]:
        """A bit a document for each part, and how many documents may be found."""
        seen = self._seen
        if seen is None or seen[0] is not snapshot:
            seen = (snapshot, *snapshot.bits_of(self.ids))
            self._seen = seen
        return seen[1], seen[2]
