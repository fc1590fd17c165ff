"""The GPU kernel of `obs_block`: a tile of rows stays in registers for the whole block."""

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor

ROWS = 16


@triton.jit
def _obs_kernel(
    weight, factor, kept, error, scale, zero, levels, rows,
    width: tl.constexpr, padded: tl.constexpr, tile: tl.constexpr,
    keep_n: tl.constexpr, group: tl.constexpr, rounded: tl.constexpr,
):
    row = tl.program_id(0) * tile + tl.arange(0, tile)
    col = tl.arange(0, padded)
    inside = (row[:, None] < rows) & (col[None, :] < width)
    place = row[:, None].to(tl.int64) * width + col[None, :]
    w = tl.load(weight + place, mask=inside, other=0.0)
    keep = tl.load(kept + place, mask=inside, other=0).to(tl.int32)
    diagonal = tl.load(factor + col * width + col, mask=col < width, other=1.0)
    if rounded:
        step = tl.load(scale + row, mask=row < rows, other=1.0)
        origin = tl.load(zero + row, mask=row < rows, other=0.0)
    for j in range(width):
        here = col[None, :] == j
        if group > 0 and j % group == 0:
            ratio = w / diagonal[None, :]
            score = ratio * ratio
            better = tl.zeros([tile, padded], dtype=tl.int32)
            for t in range(group):
                rival = tl.sum(tl.where(col[None, :] == j + t, score, 0.0), axis=1)[:, None]
                wins = (rival > score) | ((rival == score) & (j + t < col[None, :]))
                better += wins.to(tl.int32)
            among = (col[None, :] >= j) & (col[None, :] < j + group)
            keep = tl.where(among, (better < keep_n).to(tl.int32), keep)
        value = tl.sum(tl.where(here, w, 0.0), axis=1)
        stays = tl.sum(tl.where(here, keep, 0), axis=1) > 0
        target = value
        if rounded:
            # Adding and taking 1.5 * 2^23 rounds half to even, as torch.round does.
            code = (value / step + 12582912.0) - 12582912.0 + origin
            target = step * (tl.minimum(tl.maximum(code, 0.0), levels) - origin)
        target = tl.where(stays, target, 0.0)
        pivot = tl.load(factor + j * width + j)
        e = (value - target) / pivot
        tl.store(error + row.to(tl.int64) * width + j, e, mask=row < rows)
        u = tl.load(factor + j * width + col, mask=(col > j) & (col < width), other=0.0)
        w = tl.where(here, target[:, None], w - e[:, None] * u[None, :])
    tl.store(weight + place, w, mask=inside)
    tl.store(kept + place, keep.to(tl.int8), mask=inside)


def obs_block(
    weight: Tensor, factor: Tensor, keep: Tensor | None, nm: tuple[int, int] | None,
    grid: tuple[Tensor, Tensor, int] | None,
) -> tuple[Tensor, Tensor]:
    """Kept entries and scaled errors of one block; see `gossamer.ops.obs.obs_block`."""
    rows, width = weight.shape
    block = weight.contiguous()
    if keep is None:
        kept = torch.ones(rows, width, dtype=torch.int8, device=weight.device)
    else:
        kept = keep.to(torch.int8, copy=True).contiguous()
    error = torch.empty_like(block)
    scale, zero, levels = (block, block, 0) if grid is None else grid
    keep_n, group = nm or (0, 0)
    _obs_kernel[(triton.cdiv(rows, ROWS),)](
        block, factor.contiguous(), kept, error, scale.contiguous(), zero.contiguous(),
        float(levels), rows, width=width, padded=triton.next_power_of_2(width), tile=ROWS,
        keep_n=keep_n, group=group, rounded=grid is not None, num_warps=4,
    )
    if block is not weight:
        weight.copy_(block)
    return kept.bool(), error
