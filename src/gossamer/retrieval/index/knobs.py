"""Knobs: how much work a recall takes, from defaults or from a sweep on sample queries."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gossamer.core import ConfigError
from gossamer.layout.rows import Rows
from gossamer.ops.postings import Searcher

LEVELS = (0.80, 0.90, 0.95, 0.97, 0.98, 0.99)
# Measured on 200,000 documents of about 106 terms with queries of 44, k = 10.
_BASE = 200_000
_BUDGETS = (
    (0.0, 3000.0), (0.80, 6000.0), (0.90, 8000.0), (0.95, 12000.0), (0.99, 26000.0), (1.0, 60000.0),
)
# Beyond that many, the budget and the candidates for a recall grow with the documents to these
# powers, so as to reach the same recall on 1,000,000 of them.
_GROWTH, _CANDIDATE_GROWTH = 0.75, 0.5
_CANDIDATES = 30
_LEAST_BUDGET = 2000
# What scoring one document costs, in postings added up.
_SCORING = 60
# Where fewer documents than this share may be found, a search is exact.
_LEAST_SHARE = 0.05


@dataclass(frozen=True)
class Knobs:
    """What one search may spend.

    Args:
        budget: postings added up for a query.
        candidates: documents scored for a query and segment.
        exact: ignore both and answer as a scan does.
    """

    budget: int
    candidates: int
    exact: bool = False


EXACT = Knobs(0, 0, True)


@dataclass(frozen=True)
class Tuned:
    """Knobs that reached a recall on sample queries.

    Args:
        documents: that the index had.
        k: that was asked for.
        levels: (recall, knobs), rising.
    """

    documents: int
    k: int
    levels: tuple[tuple[float, Knobs], ...]

    def to_json(self) -> dict[str, Any]:
        """As plain values."""
        return asdict(self)

    @classmethod
    def from_json(cls, value: dict[str, Any]) -> Tuned:
        """From plain values."""
        levels = tuple((float(recall), Knobs(**knobs)) for recall, knobs in value["levels"])
        return cls(int(value["documents"]), int(value["k"]), levels)


def choose(recall: float, k: int, documents: int, tuned: Tuned | None) -> Knobs:
    """Knobs for a recall: the tuned ones where there are any, else safe defaults.

    Knobs that were tuned for fewer documents, or for a smaller k, are stretched.

    Raises:
        ConfigError: the recall is not in (0, 1].
    """
    if not isinstance(recall, (int, float)) or not 0 < recall <= 1:
        raise ConfigError(f"recall is {recall!r}; it must be over 0 and at most 1.")
    if recall == 1:
        return EXACT
    if tuned is None:
        return _default(recall, k, documents)
    for reached, knobs in tuned.levels:
        if reached >= recall:
            return _stretched(knobs, tuned, k, documents)
    return EXACT


def _default(recall: float, k: int, documents: int) -> Knobs:
    (low, below), (high, above) = next(
        pair for pair in pairwise(_BUDGETS) if recall <= pair[1][0])
    budget = below + (above - below) * (recall - low) / (high - low)
    budget *= max(1.0, k / 10) ** 0.5
    larger = max(1.0, documents / _BASE)
    candidates = max(_CANDIDATES, 3 * k) * larger**_CANDIDATE_GROWTH
    return Knobs(max(_LEAST_BUDGET, round(budget * larger**_GROWTH)), round(candidates))


def _stretched(knobs: Knobs, tuned: Tuned, k: int, documents: int) -> Knobs:
    wider = max(1.0, k / tuned.k)
    larger = max(1.0, documents / max(1, tuned.documents))
    return Knobs(round(knobs.budget * larger**_GROWTH * wider**0.5),
                 round(knobs.candidates * wider * larger**_CANDIDATE_GROWTH), knobs.exact)


def sweep(
    searcher: Searcher, queries: Rows, k: int, recalls: Sequence[float],
    progress: Callable[[int, int, str], None] | None = None,
) -> Tuned:
    """The cheapest knobs of a grid that reach each recall on these queries.

    Recall is the share of the exact top k that is found, where documents of a score equal to the
    k-th are as good as it. Cost is counted, not timed: postings added up, and documents scored at
    60 postings each.
    """
    truth = searcher.search(queries, k, exact=True).scores
    largest = max(1, sum(len(segment.terms) for segment in searcher.segments))
    budgets = [b for b in np.geomspace(1000, 4e6, 25).round().astype(int).tolist() if b < largest]
    grid = [(b, c) for b in [*budgets, largest] for c in sorted({k, 2 * k, 3 * k, 6 * k, 12 * k})]
    tried: list[tuple[float, float, Knobs]] = []
    for done, (budget, candidates) in enumerate(grid):
        found = searcher.search(queries, k, budget=budget, candidates=candidates)
        cost = float(found.postings.mean() + _SCORING * found.scored.mean())
        tried.append((cost, recall_of(found.scores, truth), Knobs(budget, candidates)))
        if progress is not None:
            progress(done + 1, len(grid), f"budget {budget}, {candidates} candidates")
    levels = []
    for level in sorted(set(recalls)):
        reached = [(cost, knobs) for cost, recall, knobs in tried if recall >= level]
        best = min(reached, key=lambda pair: pair[0])[1] if reached else EXACT
        levels.append((float(level), best))
    return Tuned(searcher.documents, k, tuple(levels))


def recall_of(scores: NDArray[np.float32], truth: NDArray[np.float32]) -> float:
    """Mean share of true answers found, ties counted by score."""
    wanted = (truth > 0).sum(1)
    last = np.where(truth > 0, truth, np.inf).min(1, keepdims=True)
    good = np.minimum(((scores >= last * (1 - 1e-6)) & (scores > 0)).sum(1), wanted)
    asked = wanted > 0
    return float((good[asked] / wanted[asked]).mean()) if asked.any() else 1.0


def narrowed(knobs: Knobs, found: int, live: int) -> Knobs:
    """Knobs for a search that may find ``found`` of ``live`` documents only.

    The fewer they are, the deeper a list has to be read until enough of them showed; below one in
    twenty the exact search is the quicker one.
    """
    if knobs.exact or found >= live:
        return knobs
    if found < _LEAST_SHARE * live:
        return EXACT
    return Knobs(round(knobs.budget * live / found), knobs.candidates)
