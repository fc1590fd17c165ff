"""DSnoT's swaps: move a row's expected error to zero without touching any value."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from gossamer.core.errors import DataError
from gossamer.core.pattern import Pattern
from gossamer.core.support import Support

# The threshold 0.1 of the released code is in units of 2048 tokens times the mean input.
TOKENS = 2048


@dataclass(frozen=True)
class SwapSettings:
    """How many swaps, when to stop, and whether a row's error may change its sign.

    Args:
        cycles: most swaps a row.
        threshold: a row stops once its expected error is at most this.
        same_sign: refuse the swap that would turn the sign of the row's error.
    """

    cycles: int = 50
    threshold: float = 0.1
    same_sign: bool = True


def expected_error(weight: Tensor, mean: Tensor, kept: Tensor) -> Tensor:
    """``[rows]``: mean contribution of the dropped weights, ``sum W_j E[x_j]``, times 2048."""
    return (weight * (mean * TOKENS) * ~kept).sum(1)


def swap(
    weight: Tensor, mean: Tensor, variance: Tensor, score: Tensor, support: Support,
    settings: SwapSettings | None = None,
) -> Support:
    """Refine a support by prune-and-grow (Zhang et al. 2024, arXiv 2310.08915).

    Each step of a row returns the dropped weight whose mean contribution over variance is
    greatest on the side of the row's error, and drops the kept weight of the least ``score``
    whose removal works against that error. Row counts (group counts for N:M) stay.

    Args:
        weight: ``[rows, cols]`` dense values.
        mean: ``[cols]`` mean of every input.
        variance: ``[cols]`` its variance.
        score: ``[rows, cols]``, what a kept weight is worth (for N:M, the starting criterion).
        support: where to start; every row must keep the same number (every group for N:M).

    Raises:
        DataError: all variances are zero or one is negative, or the starting counts differ.
    """
    settings = settings or SwapSettings()
    kept = support.mask().to(weight.device)
    pattern = support.pattern
    _check(variance, kept, pattern)
    spread = variance.clamp_min(1e-12 * float(variance.mean())).to(weight.dtype)
    shift = weight * (mean.to(weight.dtype) * TOKENS)  # D, [rows, cols]
    rows = _Rows(shift, shift / spread, score, kept, pattern)
    error = (shift * ~kept).sum(1)
    active = torch.ones_like(error, dtype=torch.bool)
    first_sign = error.sign()
    must_keep_sign = settings.same_sign or pattern.is_nm
    for _ in range(settings.cycles):
        active &= error.abs() > settings.threshold
        grown, dropped, valid = rows.propose(error)
        after = error + rows.at(shift, dropped) - rows.at(shift, grown)
        if must_keep_sign:
            valid &= after.sign() == first_sign
        if pattern.is_nm:
            valid &= after.abs() > settings.threshold
        active &= valid  # a row that cannot make its next swap stops for good
        if not bool(active.any()):
            break
        rows.accept(active, error, grown, dropped)
        error = torch.where(active, after, error)
    return Support.of(rows.kept, pattern)


def _check(variance: Tensor, kept: Tensor, pattern: Pattern) -> None:
    if bool((variance < 0).any()) or float(variance.max()) == 0:
        raise DataError("DSnoT needs inputs that vary: every variance is zero, or one is negative.")
    if pattern.is_nm:
        counts = kept.unflatten(1, (-1, pattern.pool[1] or 1)).sum(-1)
        if bool((counts != pattern.exact).any()):
            raise DataError(f"DSnoT was given a {pattern} support whose groups are not {pattern}.")
    elif bool((kept.sum(1) != kept[0].sum()).any()):
        raise DataError("DSnoT needs a start that keeps the same number in every row.")


class _Rows:
    """Cursors of every row into the fixed orders in which weights come back or go."""

    def __init__(self, shift: Tensor, growth: Tensor, score: Tensor, kept: Tensor,
                 pattern: Pattern) -> None:
        self.kept, self.pattern, self.shift = kept.clone(), pattern, shift
        rows = kept.shape[0]
        self.index = torch.arange(rows, device=kept.device)
        self.up = growth.masked_fill(kept, -torch.inf).argsort(dim=1, descending=True, stable=True)
        self.down = growth.masked_fill(kept, torch.inf).argsort(dim=1, stable=True)
        self.ups = torch.zeros(rows, dtype=torch.long, device=kept.device)
        self.downs = self.ups.clone()
        if pattern.is_nm:
            self.score = score.masked_fill(~kept, torch.inf)
        else:
            self.negative = _order(score, kept & (shift < 0))
            self.positive = _order(score, kept & (shift > 0))
            self.negatives = self.ups.clone()
            self.positives = self.ups.clone()

    def at(self, values: Tensor, column: Tensor) -> Tensor:
        return values[self.index, column]

    def propose(self, error: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """The next weight to grow and to drop of every row, and whether both exist and help."""
        positive = error > 0
        last = self.kept.shape[1] - 1
        grown = torch.where(positive, self.at(self.up, self.ups.clamp_max(last)),
                            self.at(self.down, self.downs.clamp_max(last)))
        value = self.at(self.shift, grown)
        valid = ~self.at(self.kept, grown) & (value.sign() == error.sign())
        if self.pattern.is_nm:
            m = self.pattern.pool[1] or 1
            run = (grown // m * m)[:, None] + torch.arange(m, device=grown.device)
            worth = self.score.gather(1, run)
            dropped = run.gather(1, worth.argmin(1, keepdim=True))[:, 0]
            return grown, dropped, valid & torch.isfinite(worth.min(1).values)
        order = torch.where(positive[:, None], self.negative, self.positive)
        cursor = torch.where(positive, self.negatives, self.positives)
        dropped = self.at(order, cursor.clamp_max(last))
        valid &= (cursor <= last) & (dropped >= 0)
        return grown, dropped.clamp_min(0), valid

    def accept(self, active: Tensor, error: Tensor, grown: Tensor, dropped: Tensor) -> None:
        rows = self.index[active]
        self.kept[rows, grown[active]] = True
        self.kept[rows, dropped[active]] = False
        up, down = active & (error > 0), active & (error < 0)
        self.ups += up
        self.downs += down
        if self.pattern.is_nm:
            self.score[rows, dropped[active]] = torch.inf
        else:
            self.negatives += up
            self.positives += down


def _order(score: Tensor, among: Tensor) -> Tensor:
    """Columns by ascending score among those marked, then -1."""
    order = score.masked_fill(~among, torch.inf).argsort(dim=1, stable=True)
    count = among.sum(1, keepdim=True)
    place = torch.arange(score.shape[1], device=score.device)
    return order.masked_fill(place >= count, -1)
