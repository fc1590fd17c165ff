"""regroup: an order of rows that brings those with like important inputs into the same group.

Rows of a group share the inputs that are kept, as many in every group. With these fixed, a row is
worth in any group what it has at that group's inputs, so every exchange of two rows has a known
gain; choosing the inputs anew afterwards can only add to it. A row counts for more in its own
group, whose inputs it helped to choose, so in the end exchanges are ranked by what rows are worth
to groups without them, and made where the whole gain is positive.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn.functional import pad

from gossamer.core import SupportError

_RANDOM, _ROUNDS = 2, 100
_TRIED = 4     # exchanges a group whose gain is computed in a round
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

    The searches begin with the rows as they are, so nothing is ever lost, with rows split in halves
    again and again by what tells them apart most, and with random orders. Each chooses the groups'
    inputs, exchanges the rows that gain most, and so on until no exchange gains; the best goes on
    with exchanges whose gain is computed with the inputs chosen anew.

    Args:
        scores, kept, size: as of `retained`.
        seed: of the random orders.
        sweeps: most rounds of exchanges of one kind.

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
    starts = [torch.arange(count), _halves(torch.cat(wide, 1), size)]
    starts += [torch.randperm(count, generator=generator) for _ in range(_RANDOM)]
    found = [_exchange(wide, kept, size, start, sweeps) for start in starts]
    best = max(found, key=lambda order: retained([score[order] for score in wide], kept, size))
    return _refine(wide, kept, size, best, sweeps)


def _halves(rows: Tensor, size: int) -> Tensor:
    """An order in which every half of the rows, and of each half, is told apart from the other.

    By the first singular vector of the centred rows; the last group alone may be too small.
    """
    parts, groups = [torch.arange(len(rows))], []
    while parts:
        part = parts.pop()
        if len(part) <= size:
            groups.append(part)
            continue
        centred = rows[part] - rows[part].mean(0)
        vector = centred[int(centred.square().sum(1).argmax())]
        for _ in range(8):
            vector = centred.t() @ (centred @ vector)
            vector = vector / vector.norm().clamp(min=1e-30)
        ranked = part[(centred @ vector).argsort(stable=True)]
        middle = -(-len(part) // size) // 2 * size
        parts += [ranked[:middle], ranked[middle:]]
    return torch.cat(sorted(groups, key=len, reverse=True))


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
        worth += rows @ _chosen(sums, most).t()
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


def _refine(
    scores: Sequence[Tensor], kept: Sequence[int], size: int, order: Tensor, sweeps: int
) -> Tensor:
    least = _LEAST * sum(float(score.sum()) for score in scores) / max(1, len(order))
    for _ in range(sweeps):
        ones, others, gain = _tried([score[order] for score in scores], kept, size)
        used: set[int] = set()
        order = order.clone()
        for at in gain.argsort(descending=True, stable=True).tolist():
            one, other = int(ones[at]), int(others[at])
            if gain[at] <= least:
                break
            if not used & {one // size, other // size}:  # so that the gains add up
                used |= {one // size, other // size}
                order[one], order[other] = order[other].clone(), order[one].clone()
        if not used:
            break
    return order


def _tried(
    scores: Sequence[Tensor], kept: Sequence[int], size: int
) -> tuple[Tensor, Tensor, Tensor]:
    """The most promising exchanges, as two places each, and their gains."""
    count = len(scores[0])
    group = torch.arange(count) // size
    sums = [_grouped(score, size) for score in scores]
    there = torch.zeros(count, count, dtype=torch.float64)  # worth of a row at another's place
    own = torch.zeros(count, dtype=torch.float64)           # of it to the rest of its group
    for score, total, most in zip(scores, sums, kept):
        there += (score @ _chosen(total, most).t())[:, group]
        own += (score * _chosen(total[group] - score, most)).sum(1)
    gain = (there + there.t() - own[:, None] - own).masked_fill(group[:, None] >= group, -torch.inf)
    tried = gain.flatten().topk(min(gain.numel(), _TRIED * len(sums[0]))).indices
    ones, others = tried // count, tried % count
    real = torch.zeros(len(tried), dtype=torch.float64)
    for score, total, most in zip(scores, sums, kept):
        more = score[others] - score[ones]
        before = total.topk(most, 1).values.sum(1)
        for place, change in ((ones, more), (others, -more)):
            at = group[place]
            real += (total[at] + change).topk(most, 1).values.sum(1) - before[at]
    return ones, others, real.masked_fill(group[ones] >= group[others], -torch.inf)


def _chosen(sums: Tensor, most: int) -> Tensor:
    """One where an input is among the best of its row, else zero."""
    return torch.zeros_like(sums).scatter_(1, sums.topk(most, 1).indices, 1.0)


def _grouped(score: Tensor, size: int) -> Tensor:
    """Sums of groups of adjacent rows: ``[groups, inputs]``."""
    rows, inputs = score.shape
    grown = pad(score, (0, 0, 0, -rows % size))
    return grown.view(-1, size, inputs).sum(1)
