"""regroup: an order of rows that brings those with like important inputs into the same group.

Rows of a group share the inputs that are kept, as many in every group. With these fixed, a row is
worth in any group what it has at that group's inputs, so every exchange of two rows has a known
gain; choosing the inputs anew afterwards can only add to it.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn.functional import pad

from gossamer.core import SupportError

_STARTS, _ROUNDS = 4, 100
_LEAST = 1e-6  # gain of an exchange, in mean rows, that is worth one


def retained(scores: Sequence[Tensor], kept: Sequence[int], size: int) -> float:
    """Score that groups of adjacent rows retain when each keeps its best inputs.

    Args:
        scores: ``[rows, inputs]`` of every layer that has these rows, at least 0.
        kept: inputs that each layer's groups keep.
        size: rows of a group; the last may have fewer.

    >>> retained([torch.tensor([[3.0, 0.0], [1.0, 1.0]])], [1], 2)
    4.0
    """
    return sum(float(_grouped(score, size).topk(count, 1).values.sum())
               for score, count in zip(scores, kept))


def regroup(
    scores: Sequence[Tensor], kept: Sequence[int], size: int, seed: int = 0, sweeps: int = _ROUNDS
) -> Tensor:
    """The order of rows, ``[rows]``, that retains most of several searches.

    The searches begin with the rows as they are, so nothing is ever lost, and with random orders.
    Each chooses the groups' inputs, exchanges the rows that gain most, and so on until no exchange
    gains.

    Args:
        scores, kept, size: as of `retained`.
        seed: of the random orders.
        sweeps: most exchanges of all rows in one search.

    Raises:
        SupportError: scores of different numbers of rows, or budgets that do not fit.

    >>> rows = torch.tensor([[2.0, 0.0], [0.0, 3.0], [2.0, 0.0], [0.0, 3.0]])
    >>> order = regroup([rows], [1], 2)
    >>> retained([rows[order]], [1], 2)
    10.0
    """
    rows = {len(score) for score in scores}
    if len(rows) != 1 or size < 1 or any(
            not 0 < count <= score.shape[1] for score, count in zip(scores, kept)):
        raise SupportError(
            f"Regrouping needs scores of the same rows and budgets of 1 to all inputs, not "
            f"{[tuple(score.shape) for score in scores]} and {list(kept)}."
        )
    count = rows.pop()
    generator = torch.Generator().manual_seed(seed)
    wide = [score.detach().double() for score in scores]
    best = torch.arange(count)
    most = retained(wide, kept, size)
    for turn in range(_STARTS):
        start = torch.randperm(count, generator=generator) if turn else torch.arange(count)
        order = _exchange(wide, kept, size, start, sweeps)
        found = retained([score[order] for score in wide], kept, size)
        if found > most:
            best, most = order, found
    return best


def _exchange(
    scores: Sequence[Tensor], kept: Sequence[int], size: int, order: Tensor, sweeps: int
) -> Tensor:
    least = _LEAST * sum(float(score.sum()) for score in scores) / max(1, len(order))
    for _ in range(sweeps):
        swaps = _swaps(scores, kept, size, order, least)
        if not swaps:
            break
        order = order.clone()
        for one, other in swaps:
            order[one], order[other] = order[other].clone(), order[one].clone()
    return order


def _swaps(
    scores: Sequence[Tensor], kept: Sequence[int], size: int, order: Tensor, least: float
) -> list[tuple[int, int]]:
    """Pairs of places to exchange, the greatest gains first, no place twice."""
    count = len(order)
    worth = torch.zeros(count, -(-count // size), dtype=torch.float64)  # of a row in every group
    for score, most in zip(scores, kept):
        rows = score[order]
        sums = _grouped(rows, size)
        chosen = torch.zeros_like(sums).scatter_(1, sums.topk(most, 1).indices, 1.0)
        worth += rows @ chosen.t()
    group = torch.arange(count) // size
    there = worth[:, group]                       # [row, place]
    own = there.diagonal()
    gain = (there + there.t() - own[:, None] - own).triu(1)
    places = (gain > least).nonzero()
    ranked = places[gain[places[:, 0], places[:, 1]].argsort(descending=True, stable=True)]
    used: set[int] = set()
    swaps = []
    for one, other in ranked.tolist():
        if one not in used and other not in used:
            used |= {one, other}
            swaps.append((one, other))
    return swaps


def _grouped(score: Tensor, size: int) -> Tensor:
    """Sums of groups of adjacent rows: ``[groups, inputs]``."""
    rows, inputs = score.shape
    grown = pad(score, (0, 0, 0, -rows % size))
    return grown.view(-1, size, inputs).sum(1)
