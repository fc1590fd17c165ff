"""Scores of single weights; greater means more worth keeping."""

from __future__ import annotations

import torch
from torch import Tensor

from gossamer.observe.stats import Stats


def magnitude(weight: Tensor, stats: Stats | None = None) -> Tensor:
    """``|W_ij|``; needs nothing."""
    return weight.abs()


def activation_scaled(weight: Tensor, stats: Stats) -> Tensor:
    """``|W_ij| * ||X_j||_2`` (Wanda, arXiv 2306.11695); needs ``input_sq``.

    ``||X_j||`` is the norm of input feature j over all calibration tokens, so that a small weight
    on a loud feature outranks a large one on a quiet feature.
    """
    return weight.abs() * stats.norm.to(weight.device)


def obs_saliency(weight: Tensor, factor: Tensor) -> Tensor:
    """``W_ij^2 / U_jj^2``, the loss of removing one weight when all later ones may answer.

    ``factor`` is U, the upper Cholesky factor of the inverse Hessian (see `hessian`).
    """
    return (weight / factor.diagonal()).square()


def finite(weight: Tensor, name: str) -> Tensor:
    """The weight in float32; raises DataError naming the site on NaN or infinity."""
    from gossamer.core.errors import DataError

    wide = weight.float()
    if not bool(torch.isfinite(wide).all()):
        raise DataError(f"{name}: the weight holds NaN or infinite values; repair the model first.")
    return wide
