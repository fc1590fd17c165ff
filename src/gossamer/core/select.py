"""select: the best units of every pool, exactly as many as the budget says."""

from __future__ import annotations

import torch
from torch import Tensor

from gossamer.core.errors import DataError, SupportError
from gossamer.core.keep import Keep
from gossamer.core.pattern import Pattern
from gossamer.core.support import Support


def select(
    score: Tensor, pattern: Pattern, keep: Keep | None = None, *, within: Support | None = None
) -> Support:
    """Keep the units with the greatest score in every pool; ties go to the lower index.

    A unit's score is the sum over its entries. Where ``within`` is given, entries outside it
    are never kept. For N:M patterns the budget is the pattern's own and ``keep`` may be None.

    Args:
        score: ``[rows, cols]``, any float dtype; compared in float32 or wider.
        pattern: unit and pool.
        keep: the budget of one pool.
        within: entries that may be kept; a unit must lie inside it as a whole.

    Raises:
        PatternError: the pattern does not tile the matrix, or the budget cannot be met.
        DataError: a score is NaN.

    >>> score = torch.tensor([[4.0, 1.0, 3.0, 2.0]])
    >>> select(score, Pattern(pool=(1, 4), exact=2)).mask().tolist()
    [[True, False, True, False]]
    """
    if score.dim() != 2:
        raise SupportError(f"select needs a matrix of scores, not shape {tuple(score.shape)}.")
    pattern.fits(*score.shape)
    budget = Keep.count(pattern.exact) if pattern.exact is not None else keep
    if budget is None:
        raise SupportError(f"The pattern {pattern} needs a budget; pass keep=Keep.fraction(...).")
    wide = score if score.dtype == torch.float64 else score.float()
    if bool(torch.isnan(wide).any()):
        raise DataError("A score is NaN, so no order exists; check the weights and statistics.")
    if within is not None:
        if within.shape != tuple(score.shape):
            raise SupportError(f"within has shape {within.shape}, scores {tuple(score.shape)}.")
        wide = wide.masked_fill(~within.mask().to(wide.device), -torch.inf)
    units = _unit_scores(wide, pattern)
    mask = _keep_in_pools(units, pattern, budget)
    mask &= units > -torch.inf
    height, width = pattern.unit
    full = mask.repeat_interleave(height, 0).repeat_interleave(width, 1)
    return Support.of(full, pattern)


def _unit_scores(score: Tensor, pattern: Pattern) -> Tensor:
    """Sum of the scores in every unit: ``[rows / height, cols / width]``."""
    if pattern.unit == (1, 1):
        return score
    height, width = pattern.unit
    return score.unflatten(0, (-1, height)).unflatten(2, (-1, width)).sum((1, 3))


def _keep_in_pools(units: Tensor, pattern: Pattern, keep: Keep) -> Tensor:
    rows, cols = units.shape
    pool_rows = (pattern.pool[0] or rows * pattern.unit[0]) // pattern.unit[0]
    pool_cols = (pattern.pool[1] or cols * pattern.unit[1]) // pattern.unit[1]
    mask = torch.zeros(rows, cols, dtype=torch.bool, device=units.device)
    # Pools that overhang the edge are smaller; each of at most four regions has one pool size.
    row_cut, col_cut = rows - rows % max(pool_rows, 1), cols - cols % max(pool_cols, 1)
    for top, bottom, height in ((0, row_cut, pool_rows), (row_cut, rows, rows - row_cut)):
        for left, right, width in ((0, col_cut, pool_cols), (col_cut, cols, cols - col_cut)):
            if bottom > top and right > left:
                region = units[top:bottom, left:right]
                tiles = region.unflatten(0, (-1, height)).unflatten(2, (-1, width))
                flat = tiles.transpose(1, 2).flatten(2).flatten(0, 1)  # [pools, size]
                kept = best(flat, keep)
                grid = kept.view(tiles.shape[0], tiles.shape[2], height, width).transpose(1, 2)
                mask[top:bottom, left:right] = grid.reshape(region.shape)
    return mask


def best(score: Tensor, keep: Keep) -> Tensor:
    """Boolean ``[pools, size]``: the entries of every row of scores that the budget keeps."""
    if keep.kind == "above":
        return score > keep.value
    if keep.kind == "mass":
        order = score.sort(dim=1, descending=True, stable=True)
        before = order.values.cumsum(1) - order.values
        need = keep.value * order.values.sum(1, keepdim=True)
        return torch.zeros_like(score, dtype=torch.bool).scatter(1, order.indices, before < need)
    size = score.shape[1]
    count = keep.units(size)
    if count == 0 or size == 0:
        return torch.zeros_like(score, dtype=torch.bool)
    if count == size:
        return torch.ones_like(score, dtype=torch.bool)
    if size <= 32:  # short pools (N:M): one stable sort beats a selection for every row
        order = score.argsort(dim=1, descending=True, stable=True)
        return torch.zeros_like(score, dtype=torch.bool).scatter(1, order[:, :count], True)
    cut = score.kthvalue(size - count + 1, dim=1, keepdim=True).values
    above, ties = score > cut, score == cut
    room = count - above.sum(1, keepdim=True)
    return above | (ties & (ties.cumsum(1, dtype=torch.int32) <= room))
