"""Which shard a document belongs to, and how answers of shards become one."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gossamer.layout.rows import Rows


@dataclass(frozen=True, eq=False)
class Answer:
    """Hits of a batch of queries from one shard, or from all.

    Args:
        ids: a list for each query, the best first.
        scores: as many for each query, falling.
    """

    ids: list[list[Any]]
    scores: list[list[float]]


def shard_of(id: int | str, shards: int) -> int:
    """The shard of an id: the same in every process, and spread evenly.

    >>> shard_of("d7", 4) == shard_of("d7", 4)
    True
    """
    digest = hashlib.blake2b(repr(id).encode(), digest_size=8).digest()
    return int.from_bytes(digest, "little") % shards


def routed(ids: Sequence[Any], shards: int) -> list[NDArray[np.int64]]:
    """Places in ``ids`` of the documents of each shard."""
    which = np.array([shard_of(id, shards) for id in ids], np.int64)
    return [np.flatnonzero(which == shard) for shard in range(shards)]


def chosen(rows: Rows, places: NDArray[np.int64]) -> Rows:
    """Some of the rows, in the order of their places."""
    lengths = np.diff(rows.starts)[places]
    starts = np.zeros(len(places) + 1, np.int64)
    np.cumsum(lengths, out=starts[1:])
    entries = np.repeat(rows.starts[places] - starts[:-1], lengths) + np.arange(int(starts[-1]))
    return Rows(starts, rows.terms[entries], rows.weights[entries], rows.vocabulary)


def merged(answers: Sequence[Answer], queries: int, k: int) -> Answer:
    """The k best of all shards for each query; of equal scores the earlier shard's comes first."""
    ids, scores = [], []
    for q in range(queries):
        found = [pair for answer in answers for pair in zip(answer.scores[q], answer.ids[q])]
        best = sorted(found, key=lambda pair: -pair[0])[:k]
        ids.append([id for _, id in best])
        scores.append([score for score, _ in best])
    return Answer(ids, scores)
