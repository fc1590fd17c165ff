"""The SparseGPT layer solver: masks chosen block by block, errors made good by later columns."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from gossamer.core.errors import ConfigError, DataError
from gossamer.core.select import select
from gossamer.core.support import Support
from gossamer.observe.stats import Stats
from gossamer.ops.obs import obs_block
from gossamer.prune.parts.hessian import Factor, factorise
from gossamer.prune.parts.quantiser import fit_grid
from gossamer.prune.parts.scores import obs_saliency
from gossamer.prune.parts.solver import Budget, Solved


@dataclass(frozen=True)
class ObsSettings:
    """How the solver runs.

    Args:
        damp: share of the Hessian's mean diagonal added to its diagonal.
        block: columns whose mask is chosen together and whose updates are batched.
        bits: grid of the kept weights (2, 3, 4 or 8), None for none.
    """

    damp: float = 0.01
    block: int = 128
    bits: int | None = None


def sparsegpt_layer(
    weight: Tensor, hessian: Tensor | Factor, budget: Budget,
    settings: ObsSettings | None = None, name: str = "layer",
) -> tuple[Tensor, Support, Tensor]:
    """Prune one layer by SparseGPT (Frantar & Alistarh 2023, arXiv 2301.00774).

    Args:
        weight: ``[out, in]``.
        hessian: ``[in, in]``, any multiple of the sum over tokens of ``x x^T``, or its `Factor`.
        budget: N:M, or a share kept. Where the pattern's pool is the whole matrix or a block of
            columns, each block of ``settings.block`` (or the pattern's) columns keeps exactly
            its share; a pattern by rows does so inside every row of the block.

    Returns:
        The updated weight (float32, exact zeros), its support, and ``[out]`` losses
        ``sum(err^2) / 2``.

    Raises:
        DataError: sizes differ, or the Hessian is not finite or not positive definite.

    >>> from gossamer.core import Keep, nm
    >>> w, support, _ = sparsegpt_layer(
    ...     torch.randn(4, 8), torch.eye(8), Budget(nm(2, 4), Keep.fraction(0.5)))
    >>> support.density
    0.5
    """
    settings = settings or ObsSettings()
    out = weight.to(torch.float64 if weight.dtype == torch.float64 else torch.float32, copy=True)
    rows, cols = out.shape
    budget.pattern.fits(rows, cols, name)
    factor = hessian if isinstance(hessian, Factor) else factorise(hessian, settings.damp, name)
    upper = factor.upper.to(out.dtype)
    if upper.shape[0] != cols:
        raise DataError(f"{name}: a Hessian of {tuple(upper.shape)} does not fit {cols} inputs.")
    width = block_width(budget, settings)
    grid = None if settings.bits is None else fit_grid(out, settings.bits).parts()
    out[:, factor.dead] = 0
    mask = torch.empty(rows, cols, dtype=torch.bool, device=out.device)
    losses = out.new_zeros(rows)
    nm = (budget.pattern.exact or 0, budget.pattern.pool[1] or 0) if budget.pattern.is_nm else None
    for left in range(0, cols, width):
        right = min(left + width, cols)
        piece = out[:, left:right].contiguous()
        corner = upper[left:right, left:right].contiguous()
        keep = None if nm else choose(piece, corner, budget)
        kept, errors = obs_block(piece, corner, keep, nm=nm, grid=grid)
        out[:, left:right] = piece
        mask[:, left:right] = kept
        losses += errors.square().sum(1) / 2
        out[:, right:].addmm_(errors, upper[left:right, right:], alpha=-1)
    return out, Support.of(mask, budget.pattern), losses


def block_width(budget: Budget, settings: ObsSettings) -> int:
    """Columns a block: the pattern's own where it names them, a multiple of M for N:M."""
    pattern = budget.pattern
    if pattern.unit != (1, 1):
        raise ConfigError(f"SparseGPT chooses single weights; blocks of {pattern} are not for it.")
    if pattern.is_nm:
        m = pattern.pool[1] or 1
        return m * max(1, settings.block // m)
    if pattern.pool[0] is None and pattern.pool[1] is not None:
        return pattern.pool[1]
    return settings.block


def choose(piece: Tensor, corner: Tensor, budget: Budget) -> Tensor:
    """The kept entries of one block of columns, by saliency of the updated weights."""
    score = obs_saliency(piece, corner)
    return select(score, budget.pattern, budget.keep).mask()


def solve(settings: ObsSettings, name: str, weight: Tensor, stats: Stats,
          budget: Budget) -> Solved:
    """`sparsegpt_layer` as a Solver; needs ``input_gram``."""
    factor = stats.once("inverse_factor",
                        lambda: factorise(stats["input_gram"], settings.damp, name))
    updated, support, _ = sparsegpt_layer(weight, factor, budget, settings, name)
    return Solved(updated, support)


def workspace(rows: int, cols: int) -> int:
    """Bytes that solving one site takes besides the statistics: the factor made and kept."""
    return 4 * (2 * cols * cols + 5 * rows * cols)
