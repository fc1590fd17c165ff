"""The optimal brain surgeon step over one block of columns, one column at a time."""

from __future__ import annotations

import torch
from torch import Tensor

from gossamer.core.keep import Keep
from gossamer.core.select import best


def obs_block(
    weight: Tensor, factor: Tensor, keep: Tensor | None, nm: tuple[int, int] | None,
    grid: tuple[Tensor, Tensor, int] | None,
) -> tuple[Tensor, Tensor]:
    """Kept entries and scaled errors of one block; see `gossamer.ops.obs.obs_block`."""
    w = weight.clone()  # [rows, width]
    mask = torch.ones_like(w, dtype=torch.bool) if keep is None else keep.clone()
    errors = torch.zeros_like(w)
    diagonal = factor.diagonal()
    for j in range(w.shape[1]):
        if nm is not None and j % nm[1] == 0:
            run = slice(j, j + nm[1])
            mask[:, run] = best((w[:, run] / diagonal[run]).square(), Keep.count(nm[0]))
        kept = w[:, j] if grid is None else on_grid(w[:, j], *grid)
        value = torch.where(mask[:, j], kept, torch.zeros_like(kept))
        errors[:, j] = (w[:, j] - value) / diagonal[j]
        w[:, j + 1:] -= errors[:, j, None] * factor[j, j + 1:]
        w[:, j] = value
    weight.copy_(w)
    return mask, errors


def on_grid(column: Tensor, scale: Tensor, zero: Tensor, levels: int) -> Tensor:
    """The nearest grid value of every row: ``scale * (clamp(round(w / scale) + zero) - zero)``."""
    code = (torch.round(column / scale) + zero).clamp(0, levels)
    return scale * (code - zero)
