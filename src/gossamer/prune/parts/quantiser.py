"""Per-output asymmetric grids for joint pruning and quantisation."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from gossamer.ops.obs.reference import on_grid


@dataclass(frozen=True)
class Grid:
    """``2^bits`` evenly spaced values for every output row; zero is always one of them."""

    scale: Tensor  # [rows]
    zero: Tensor  # [rows]
    levels: int

    def round(self, weight: Tensor) -> Tensor:
        """The nearest grid values of ``[rows, cols]``."""
        return on_grid(weight, self.scale[:, None], self.zero[:, None], self.levels)

    def parts(self) -> tuple[Tensor, Tensor, int]:
        """Scale, zero point and highest level, as `ops.obs.obs_block` takes them."""
        return self.scale, self.zero, self.levels


def fit_grid(weight: Tensor, bits: int, *, steps: int = 100, shrink: float = 0.8,
             norm: float = 2.4) -> Grid:
    """The grid of least ``|w - Q(w)|^norm`` over shrunken ranges of each row (as in GPTQ).

    Args:
        weight: ``[rows, cols]`` dense weights.
        bits: 2, 3, 4 or 8.
        steps: number of range widths in the search from the full range down.
        shrink: the search stops at ``1 - shrink`` of the full range.
        norm: exponent of the error that is minimised.
    """
    levels = 2**bits - 1
    low = weight.amin(1).clamp_max(0)
    high = weight.amax(1).clamp_min(0)
    flat = (low == 0) & (high == 0)
    low, high = low.masked_fill(flat, -1), high.masked_fill(flat, 1)
    grid = _grid(low, high, levels)
    best = _error(weight, grid, norm)
    for step in range(1, int(shrink * steps)):
        share = 1 - step / steps
        trial = _grid(low * share, high * share, levels)
        error = _error(weight, trial, norm)
        better = error < best
        best = torch.where(better, error, best)
        grid = Grid(torch.where(better, trial.scale, grid.scale),
                    torch.where(better, trial.zero, grid.zero), levels)
    return grid


def _grid(low: Tensor, high: Tensor, levels: int) -> Grid:
    scale = (high - low) / levels
    return Grid(scale, torch.round(-low / scale), levels)


def _error(weight: Tensor, grid: Grid, norm: float) -> Tensor:
    return (weight - grid.round(weight)).abs_().pow_(norm).sum(1)
