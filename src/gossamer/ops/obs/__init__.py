"""obs_block: prune (and round) one block of columns, each error made good by those after it."""

from __future__ import annotations

import torch
from torch import Tensor

from gossamer import native
from gossamer.ops.obs import reference

Grid = tuple[Tensor, Tensor, int]


def obs_block(
    weight: Tensor,
    factor: Tensor,
    keep: Tensor | None = None,
    *,
    nm: tuple[int, int] | None = None,
    grid: Grid | None = None,
) -> tuple[Tensor, Tensor]:
    """Prune a block of columns in place by optimal brain surgeon (SparseGPT, arXiv 2301.00774).

    Column j of every row is set to zero, or to its nearest grid value, and the error
    ``(w_j - q_j) / U_jj`` times row j of U is taken from the columns after it.

    Args:
        weight: ``[rows, width]``, overwritten with the result; float32 or float64.
        factor: ``[width, width]`` upper Cholesky factor U of the inverse Hessian.
        keep: boolean ``[rows, width]``, or None where ``nm`` chooses.
        nm: N and M: at each multiple of M keep the N best of the next M, by the updated weights.
        grid: scale ``[rows]``, zero point ``[rows]`` and highest level, for joint quantisation.

    Returns:
        The kept mask and the scaled errors, both ``[rows, width]``.
    """
    kernel = kernel_for(weight, nm)
    if kernel == "cpu":
        from gossamer.ops.obs import cpu

        return cpu.obs_block(weight, factor, keep, nm, grid)
    if kernel == "triton":
        from gossamer.ops.obs import triton

        return triton.obs_block(weight, factor, keep, nm, grid)
    return reference.obs_block(weight, factor, keep, nm, grid)


def kernel_for(weight: Tensor, nm: tuple[int, int] | None) -> str:
    """Which kernel serves a block: cpu (native), triton or reference."""
    if weight.dtype != torch.float32 or weight.shape[1] > 1024 or weight.numel() == 0:
        return "reference"
    if weight.device.type == "cpu" and native.core is not None and (nm is None or nm[1] <= 64):
        return "cpu"
    if weight.device.type == "cuda" and weight.shape[1] <= 128 and (nm is None or nm[1] <= 16):
        return "triton"
    return "reference"
