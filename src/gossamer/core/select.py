"""select: the best units of every pool, exactly as many as the budget says."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from gossamer.core.errors import DataError, PatternError, SupportError
from gossamer.core.grouped import assign
from gossamer.core.keep import Keep
from gossamer.core.pattern import Pattern
from gossamer.core.support import Support, tiles

_SHORT = 32


def select(
    score: Tensor, pattern: Pattern, keep: Keep | None = None, *, within: Support | None = None
) -> Support:
    """Keep the units with the greatest score in every pool; ties go to the lower index.

    A unit's score is the sum over its entries; units of a pool are indexed row by row. Where
    ``within`` is given, units outside it are never kept, and a pool that has fewer units inside
    it than the budget asks for keeps all of those. For patterns with an exact count (N:M) the
    budget is the pattern's own and ``keep`` may be None. Grouped N:M is chosen by
    `gossamer.core.grouped.assign`, close to the best and not quite.

    Args:
        score: ``[rows, cols]``, any float dtype; compared in float32 or wider.
        pattern: unit and pool.
        keep: the budget of one pool.
        within: entries that may be kept; a unit must lie inside it as a whole.

    Raises:
        PatternError: the pattern does not tile the matrix, or the budget cannot be met.
        DataError: a score is NaN or complex, or a budget by mass sees a negative or infinite score.
        SupportError: the score is no matrix, ``within`` has another shape, or a budget is missing.

    >>> score = torch.tensor([[4.0, 1.0, 3.0, 2.0]])
    >>> select(score, Pattern(pool=(1, 4), exact=2)).mask().tolist()
    [[True, False, True, False]]
    """
    if score.dim() != 2:
        raise SupportError(f"select needs a matrix of scores, not shape {tuple(score.shape)}.")
    if score.is_complex():
        raise DataError(f"Scores of {score.dtype} have no order; take their absolute values.")
    if within is not None and within.shape != tuple(score.shape):
        raise SupportError(f"within has shape {within.shape}, scores {tuple(score.shape)}.")
    pattern.fits(*score.shape)
    budget = Keep.count(pattern.exact) if pattern.exact is not None else keep
    if budget is None:
        raise SupportError(f"The pattern {pattern} needs a budget; pass keep=Keep.fraction(...).")
    if pattern.grouped is not None:
        return _grouped(score.detach(), pattern, within)
    units = _unit_scores(score.detach(), pattern)
    if bool(torch.isnan(units).any()):
        raise DataError("A score is NaN, so no order exists; check the weights and statistics.")
    if within is None:
        mask = _keep_in_pools(units, pattern, budget)
    else:
        inside = _whole_units(within.mask().to(units.device), pattern)
        # A true -inf must still rank above everything outside.
        floor = torch.finfo(units.dtype).min
        outside = 0.0 if budget.kind == "mass" else -torch.inf
        ranked = units if budget.kind == "mass" else units.clamp(min=floor)
        mask = _keep_in_pools(ranked.masked_fill(~inside, outside), pattern, budget) & inside
    return Support.of(_spread(mask, pattern), pattern)


def _grouped(score: Tensor, pattern: Pattern, within: Support | None) -> Support:
    if within is not None:
        raise PatternError(f"The pattern {pattern} cannot be chosen within another support.")
    if not bool(torch.isfinite(score).all()):
        raise DataError(f"The pattern {pattern} needs finite scores; check the weights.")
    n, m, group = pattern.grouped or (1, 1, 1)
    return Support.of(assign(score, n, m, group), pattern)


def best(score: Tensor, keep: Keep) -> Tensor:
    """Boolean ``[pools, size]``: the entries of every row of scores that the budget keeps.

    Args:
        score: ``[pools, size]`` of float32 or float64, without NaN.
        keep: the budget of one pool.
    """
    if keep.kind == "above":
        return score > keep.value
    if keep.kind == "mass":
        return _by_mass(score, keep.value)
    size = score.shape[1]
    count = keep.units(size)
    if count == 0 or score.numel() == 0:
        return torch.zeros_like(score, dtype=torch.bool)
    if count == size:
        return torch.ones_like(score, dtype=torch.bool)
    return _by_rank(score, count) if size <= _SHORT else _by_threshold(score, count)


def _by_rank(score: Tensor, count: int) -> Tensor:
    """Short pools (N:M): comparing every pair of places beats sorting every pool."""
    places = score.t().contiguous()  # [size, pools]
    rank = torch.zeros(places.shape, dtype=torch.uint8, device=score.device)
    for low in range(len(places)):
        for high in range(low + 1, len(places)):
            wins = places[low] >= places[high]
            rank[high] += wins
            rank[low] += ~wins
    return (rank < count).t()


def _by_threshold(score: Tensor, count: int) -> Tensor:
    """Long pools: everything above the count-th greatest score, then ties in order of index."""
    cut = _order_statistic(score, score.shape[1] - count)
    room = count - _trues(score > cut)
    level = score == cut
    crowded = (_trues(level) > room).nonzero().flatten()
    if len(crowded):
        ties = level[crowded]
        ties &= ties.cumsum(1, dtype=torch.int32) <= room[crowded, None]
        level[crowded] = ties
    return level.logical_or_(score > cut)


def _order_statistic(score: Tensor, place: int) -> Tensor:
    """The value at this place (from 0) of every sorted row: ``[pools, 1]``."""
    if score.device.type != "cpu":
        if score.shape[0] < 64:  # kthvalue gives a whole row to one block of threads
            return score.sort(dim=1).values[:, place : place + 1]
        return score.kthvalue(place + 1, dim=1, keepdim=True).values
    # On the CPU numpy's vectorised selection is about twenty times faster than kthvalue.
    return torch.from_numpy(np.partition(score.numpy(), place, axis=1)[:, place : place + 1])


def _trues(mask: Tensor) -> Tensor:
    """int64 ``[pools]``: true entries in every row."""
    if mask.device.type != "cpu":
        return mask.sum(1)
    return torch.from_numpy(np.count_nonzero(mask.numpy(), axis=1))


def _by_mass(score: Tensor, share: float) -> Tensor:
    if bool(((score < 0) | torch.isinf(score)).any()):
        raise DataError("A budget by mass needs finite scores of at least 0; use their magnitude.")
    order = score.sort(dim=1, descending=True, stable=True)
    reached = order.values.cumsum(1, dtype=torch.float64)
    before = torch.nn.functional.pad(reached, (1, -1))
    needed = before < share * reached[:, -1:]
    return torch.zeros_like(score, dtype=torch.bool).scatter(1, order.indices, needed)


def _unit_scores(score: Tensor, pattern: Pattern) -> Tensor:
    """Sum of the scores in every unit: ``[rows / height, cols / width]``."""
    wide = score if score.dtype == torch.float64 else score.float()
    return wide if pattern.unit == (1, 1) else tiles(wide, *pattern.unit).sum((1, 3))


def _whole_units(mask: Tensor, pattern: Pattern) -> Tensor:
    return mask if pattern.unit == (1, 1) else tiles(mask, *pattern.unit).all(3).all(1)


def _spread(units: Tensor, pattern: Pattern) -> Tensor:
    if pattern.unit == (1, 1):
        return units
    height, width = pattern.unit
    return units.repeat_interleave(height, 0).repeat_interleave(width, 1)


def _keep_in_pools(units: Tensor, pattern: Pattern, keep: Keep) -> Tensor:
    rows, cols = units.shape
    pool_rows = min(rows, (pattern.pool[0] or rows * pattern.unit[0]) // pattern.unit[0])
    pool_cols = min(cols, (pattern.pool[1] or cols * pattern.unit[1]) // pattern.unit[1])
    mask = torch.zeros(rows, cols, dtype=torch.bool, device=units.device)
    if units.numel() == 0:
        return mask
    # Pools that overhang the edge are smaller; each of at most four regions has one pool size.
    row_cut, col_cut = rows - rows % pool_rows, cols - cols % pool_cols
    for top, bottom, height in ((0, row_cut, pool_rows), (row_cut, rows, rows - row_cut)):
        for left, right, width in ((0, col_cut, pool_cols), (col_cut, cols, cols - col_cut)):
            if bottom > top and right > left:
                region = units[top:bottom, left:right]
                tiled = tiles(region, height, width)
                flat = tiled.transpose(1, 2).flatten(2).flatten(0, 1)  # [pools, size]
                kept = best(flat, keep)
                grid = kept.view(tiled.shape[0], tiled.shape[2], height, width).transpose(1, 2)
                mask[top:bottom, left:right] = grid.reshape(region.shape)
    return mask
