"""Which segments to merge, and what becomes of deletions that come while they are merged."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from gossamer.layout.rows import Rows
from gossamer.retrieval.index import bits
from gossamer.retrieval.index.config import IndexConfig
from gossamer.retrieval.index.identifiers import Ids, concatenated
from gossamer.retrieval.index.part import Part, stacked


def due(parts: Sequence[Part], config: IndexConfig) -> list[Part]:
    """Segments that should become one now; none where all is well.

    A segment of which too much was deleted is written anew; else as many of about one size as the
    settings say go together, the smallest first, so that a document is written once for each
    `merge_segments`-fold growth of the index.
    """
    stored = [part for part in parts if part.stored]
    for part in stored:
        if part.documents - part.live > config.merge_deleted * part.documents or not part.live:
            return [part]
    tiers: dict[int, list[Part]] = {}
    for part in stored:
        size = max(1.0, part.live / config.pending_documents)
        tiers.setdefault(int(math.log(size, config.merge_segments) + 1e-9), []).append(part)
    for tier in sorted(tiers):
        group = sorted(tiers[tier], key=lambda part: part.live)[:config.merge_segments]
        fits = sum(part.live for part in group) <= config.segment_documents
        if len(group) == config.merge_segments and fits:
            return group
    return []


def groups(parts: Sequence[Part], config: IndexConfig) -> list[list[Part]]:
    """All segments in as few groups as hold at most the documents of a segment each, in order.

    Groups of one segment from which nothing was deleted are left out.
    """
    found: list[list[Part]] = []
    live = 0
    for part in (part for part in parts if part.stored):
        if not found or live + part.live > config.segment_documents:
            found.append([])
            live = 0
        found[-1].append(part)
        live += part.live
    return [group for group in found if len(group) > 1 or group[0].alive is not None]


def living(parts: Sequence[Part]) -> tuple[Rows, Ids]:
    """All living documents of several parts."""
    each = [part.living() for part in parts if part.live]
    return stacked([rows for rows, _ in each]), concatenated([ids for _, ids in each])


def deleted_since(before: Sequence[Part], now: Sequence[Part]) -> NDArray[np.int64]:
    """Places, among the documents that lived before, of those that do not live now."""
    gone, first = [], 0
    for old, new in zip(before, now, strict=True):
        if new.alive is not None:
            lives = bits.flags(new.alive, new.documents)
            if old.alive is not None:
                lives = lives[bits.flags(old.alive, old.documents)]
            gone.append(np.flatnonzero(~lives) + first)
        first += old.live
    return np.concatenate([np.empty(0, np.int64), *gone])
