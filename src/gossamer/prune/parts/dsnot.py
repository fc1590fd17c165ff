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
    if settings.cycles == 0:
        return support
    spread = variance.clamp_min(1e-12 * float(variance.mean())).to(weight.dtype)
    shift = weight * (mean.to(weight.dtype) * TOKENS)  # D, [rows, cols]
    error = (shift * ~kept).sum(1)
    first_sign = error.sign()
    must_keep_sign = settings.same_sign or pattern.is_nm
    # Rows whose error keeps its sign need the weights of one side alone.
    signs = [first_sign] if must_keep_sign else [torch.ones_like(error), -torch.ones_like(error)]
    sides = [_Side(sign, shift, spread, score, kept, pattern, settings.cycles) for sign in signs]
    kept = kept.clone()
    rows = torch.arange(len(error), device=kept.device)
    active = torch.ones_like(error, dtype=torch.bool)
    for _ in range(settings.cycles):
        active &= error.abs() > settings.threshold
        turn = torch.zeros_like(active) if len(sides) == 1 else error < 0
        grown, dropped, valid = _choose(turn, [side.propose() for side in sides])
        after = error + shift[rows, dropped] - shift[rows, grown]
        valid &= ~kept[rows, grown] & kept[rows, dropped]
        if must_keep_sign:
            valid &= after.sign() == first_sign
        if pattern.is_nm:
            valid &= after.abs() > settings.threshold
        active &= valid  # a row that cannot make its next swap stops for good
        if not bool(active.any()):
            break
        kept[rows[active], grown[active]] = True
        kept[rows[active], dropped[active]] = False
        for number, side in enumerate(sides):
            side.advance(active & (turn == bool(number)), dropped)
        error = torch.where(active, after, error)
    return Support.of(kept, pattern)


def _choose(turn: Tensor, proposals: list[tuple[Tensor, Tensor, Tensor]],
            ) -> tuple[Tensor, Tensor, Tensor]:
    """Every row's proposal from the side that its error is on."""
    if len(proposals) == 1:
        return proposals[0]
    first, second = proposals
    chosen = [torch.where(turn, b, a) for a, b in zip(first, second)]
    return chosen[0], chosen[1], chosen[2]


def _check(variance: Tensor, kept: Tensor, pattern: Pattern) -> None:
    if bool((variance < 0).any()) or float(variance.max()) == 0:
        raise DataError("DSnoT needs inputs that vary: every variance is zero, or one is negative.")
    if pattern.is_nm:
        counts = kept.view(kept.shape[0], -1, pattern.pool[1] or 1).sum(-1)
        if bool(counts.ne(pattern.exact or 0).any()):
            raise DataError(f"DSnoT was given a {pattern} support whose groups are not {pattern}.")
    elif bool((kept.sum(1) != kept[0].sum()).any()):
        raise DataError("DSnoT needs a start that keeps the same number in every row.")


class _Side:
    """Orders in which weights come back and go where a row's error has this sign, and a cursor.

    The orders are fixed at the start; a cursor never goes back.
    """

    def __init__(self, sign: Tensor, shift: Tensor, spread: Tensor, score: Tensor, kept: Tensor,
                 pattern: Pattern, cycles: int) -> None:
        reach = min(cycles, kept.shape[1])  # no cursor moves further
        self.pattern, self.last = pattern, reach - 1
        self.rows = torch.arange(kept.shape[0], device=kept.device)
        self.cursor = torch.zeros_like(self.rows)
        toward = shift * sign[:, None]
        growth = (toward / spread).masked_fill(kept, -torch.inf)
        self.grow = growth.topk(reach, dim=1).indices
        self.helps = toward.gather(1, self.grow) > 0
        if pattern.is_nm:
            self.score = score.masked_fill(~kept, torch.inf)
        else:
            worth = score.masked_fill(~kept | (toward >= 0), torch.inf)
            found = worth.topk(reach, dim=1, largest=False)
            self.drop, self.found = found.indices, torch.isfinite(found.values)

    def propose(self) -> tuple[Tensor, Tensor, Tensor]:
        """The next weight to grow and to drop of every row, and whether both exist and help."""
        place = self.cursor.clamp_max(self.last)
        grown = self.grow[self.rows, place]
        valid = self.helps[self.rows, place] & (self.cursor <= self.last)
        if not self.pattern.is_nm:
            return grown, self.drop[self.rows, place], valid & self.found[self.rows, place]
        m = self.pattern.pool[1] or 1
        run = (grown // m * m)[:, None] + torch.arange(m, device=grown.device)
        worth = self.score.gather(1, run)
        dropped = run.gather(1, worth.argmin(1, keepdim=True))[:, 0]
        return grown, dropped, valid & torch.isfinite(worth.min(1).values)

    def advance(self, active: Tensor, dropped: Tensor) -> None:
        """Move the cursors of the rows that swapped on this side."""
        self.cursor += active
        if self.pattern.is_nm:
            self.score[self.rows[active], dropped[active]] = torch.inf
