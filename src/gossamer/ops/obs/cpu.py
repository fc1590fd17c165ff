"""The native kernel of `obs_block`: rows in parallel, kept columns skipped."""

from __future__ import annotations

import torch
from torch import Tensor

from gossamer import native
from gossamer.core.errors import NeedsError


def obs_block(
    weight: Tensor, factor: Tensor, keep: Tensor | None, nm: tuple[int, int] | None,
    grid: tuple[Tensor, Tensor, int] | None,
) -> tuple[Tensor, Tensor]:
    """Kept entries and scaled errors of one block; see `gossamer.ops.obs.obs_block`."""
    rows, width = weight.shape
    block = weight.contiguous()
    upper = factor.contiguous()
    inverse = upper.diagonal().reciprocal()
    if keep is None:
        kept = torch.ones(rows, width, dtype=torch.bool)
    else:
        kept = keep.to(torch.bool, copy=True).contiguous()
    error = torch.empty_like(block)
    n, m = nm or (0, 0)
    if native.core is None:
        raise NeedsError("The native module is not built; install the package with pip.")
    scale, zero, levels = (None, None, 0) if grid is None else grid
    scale = None if scale is None else scale.float().contiguous()
    zero = None if zero is None else zero.float().contiguous()
    native.core.obs_block(
        block.data_ptr(), upper.data_ptr(), inverse.data_ptr(), kept.data_ptr(), error.data_ptr(),
        0 if scale is None else scale.data_ptr(), 0 if zero is None else zero.data_ptr(),
        float(levels), rows, width, n, m, torch.get_num_threads(),
    )
    if block is not weight:
        weight.copy_(block)
    return kept, error
