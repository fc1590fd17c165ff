"""Bytes of an index by part."""

from __future__ import annotations

from collections.abc import Iterable

from gossamer.retrieval.index.part import Part


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
