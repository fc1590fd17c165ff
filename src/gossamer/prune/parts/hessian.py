"""The Hessian of a layer's squared output error, and the factor of its inverse."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from gossamer.core.errors import DataError

# Below this size the library's own Cholesky is quicker than splitting into matrix products.
BASE = {"cpu": 256, "cuda": 1024}


@dataclass(frozen=True)
class Factor:
    """U of a damped inverse Hessian, and which inputs were always zero."""

    upper: Tensor  # [in, in], U^T U = (H + damping)^-1
    dead: Tensor  # bool [in]


def factorise(hessian: Tensor, damp: float, name: str) -> Factor:
    """Upper U with ``U^T U = (H + damp * mean(diag H) I)^-1``; inputs with ``H_jj = 0`` get 1.

    With P the reversal of rows and columns and ``P H P = L L^T``, the factor is ``P L^-1 P``: one
    Cholesky and one triangular inverse, where forming the inverse and factoring it again costs
    about twice as much. Where the factorisation fails the damping is raised tenfold up to 1, and
    then tried in float64.

    Args:
        hessian: ``[in, in]`` symmetric, float32 or float64, any positive multiple; left as it is.
        damp: share of the mean diagonal that is added to the diagonal.
        name: the site, for the error.

    Raises:
        DataError: not square, NaN, or not positive definite even with damping 1 in float64.
    """
    if hessian.dim() != 2 or hessian.shape[0] != hessian.shape[1]:
        raise DataError(f"{name}: the Hessian must be square, not {tuple(hessian.shape)}.")
    diagonal = hessian.diagonal()
    if not bool(torch.isfinite(hessian.sum(0)).all()):
        raise DataError(f"{name}: the Hessian holds NaN or infinite values; check the activations.")
    dead = diagonal == 0
    filled = torch.where(dead, torch.ones_like(diagonal), diagonal)
    mean = filled.mean()
    for dtype in (hessian.dtype, torch.float64):
        share = damp
        while share <= 1:
            matrix = hessian.flip(0, 1).to(dtype)
            matrix.diagonal().copy_((filled + share * mean).flip(0))
            if invert_cholesky_(matrix):
                return Factor(matrix.flip(0, 1).to(hessian.dtype), dead)
            share = share * 10 if share > 0 else 1e-4
    raise DataError(
        f"{name}: the Hessian is not positive definite even with damping; use more calibration "
        "text, at least as many tokens as the layer has inputs."
    )


def invert_cholesky_(matrix: Tensor) -> bool:
    """Overwrite ``L L^T`` with lower ``L^-1``; False where it is not positive definite.

    Recursive halves, so that nearly all work is matrix products.
    """
    n = matrix.shape[0]
    if n <= BASE.get(matrix.device.type, 1024):
        lower, info = torch.linalg.cholesky_ex(matrix)
        if int(info) != 0 or not bool(torch.isfinite(lower.diagonal()).all()):
            return False
        eye = torch.eye(n, dtype=matrix.dtype, device=matrix.device)
        matrix.copy_(torch.linalg.solve_triangular(lower, eye, upper=False))
        return True
    half = n // 2
    first, corner, second = matrix[:half, :half], matrix[half:, :half], matrix[half:, half:]
    if not invert_cholesky_(first):
        return False
    side = corner @ first.t()  # L21
    second.addmm_(side, side.t(), alpha=-1)
    if not invert_cholesky_(second):
        return False
    corner.copy_((second @ side).mm(first).neg_())
    matrix[:half, half:] = 0
    return True
