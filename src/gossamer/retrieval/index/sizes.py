"""Bytes and figures of an index."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from gossamer.retrieval.index.part import Part
from gossamer.retrieval.index.snapshot import Snapshot


def sizes(parts: Iterable[Part]) -> dict[str, int]:
    """Bytes of postings, list heads, rows, identifiers and deletion bits of all parts."""
    total = {"postings": 0, "heads": 0, "rows": 0, "ids": 0, "deleted": 0}
    for part in parts:
        if part.segment is not None:
            for name, count in part.segment.bytes().items():
                total[name if name in total else "rows"] += count
        total["ids"] += sum(int(array.nbytes) for array in part.ids.arrays().values())
        total["deleted"] += 0 if part.alive is None else int(part.alive.nbytes)
    return total


def figures(snapshot: Snapshot) -> dict[str, Any]:
    """Documents, segments and terms of a snapshot."""
    parts = snapshot.parts
    vocabularies = [part.segment.vocabulary for part in parts if part.segment is not None]
    return {
        "documents": snapshot.live,
        "deleted": snapshot.searcher.documents - snapshot.live,
        "segments": sum(part.stored for part in parts),
        "waiting": sum(part.live for part in parts if not part.stored),
        "terms": snapshot.terms,
        "vocabulary": max(vocabularies, default=0),
    }
