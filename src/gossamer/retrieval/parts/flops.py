"""Losses that keep embeddings sparse, and what their inner products cost in an inverted index."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from gossamer.core import DataError
from gossamer.layout.rows import Rows

__all__ = ["Activity", "activity", "arc_face", "flops_loss", "l1_loss", "operations"]


def flops_loss(embeddings: Tensor) -> Tensor:
    """``sum_j (mean_b |x_bj|)^2`` of a batch ``[B, D]``: a scalar.

    A smooth stand-in for the operations of a search: dimensions that are busy are pushed harder,
    so that activity spreads evenly.

    >>> flops_loss(torch.tensor([[1.0, 0.0], [1.0, 2.0]]))
    tensor(2.)
    """
    return embeddings.abs().mean(0).square().sum()


def l1_loss(embeddings: Tensor) -> Tensor:
    """``sum_j mean_b |x_bj|`` of a batch ``[B, D]``: a scalar; every dimension is pushed alike."""
    return embeddings.abs().mean(0).sum()


def operations(embeddings: Tensor) -> float:
    """Expected products of one row of a batch ``[B, D]`` with another, without bias.

    ``sum_j n_j (n_j - 1) / (B (B - 1))`` with n_j the rows that are active in dimension j.

    Raises:
        DataError: there are fewer than two rows.
    """
    rows = embeddings.shape[0]
    if rows < 2:
        raise DataError(f"Pairs need two rows at least, not {rows}.")
    active = (embeddings.abs() > 1e-8).sum(0).double()
    return float((active * (active - 1)).sum() / (rows * (rows - 1)))


@dataclass(frozen=True)
class Activity:
    """How sparse rows are, and how evenly.

    Args:
        nnz: active dimensions of a row, on average.
        flops: ``sum_j p_j^2``, the mean operations of a search for each row, p_j being the share
            of rows that are active in dimension j.
        evenness: flops over what they would be if all dimensions were active alike; 1 is best.
        empty: share of rows without any active dimension.
    """

    nnz: float
    flops: float
    evenness: float
    empty: float


def activity(rows: Rows) -> Activity:
    """The activity of rows.

    >>> from gossamer.layout.rows import as_rows
    >>> activity(as_rows([{0: 1.0, 1: 0.5}, {0: 2.0}], 4))
    Activity(nnz=1.5, flops=1.25, evenness=2.22..., empty=0.0)
    """
    if rows.nnz == 0:
        raise DataError("There is no active dimension in any row.")
    shares = np.bincount(rows.terms, minlength=rows.vocabulary) / rows.count
    flops, nnz = float((shares**2).sum()), rows.nnz / rows.count
    return Activity(nnz, flops, rows.vocabulary * flops / nnz**2,
                    float((np.diff(rows.starts) == 0).mean()))


def arc_face(
    embeddings: Tensor, classes: Tensor, labels: Tensor, scale: float = 64.0, margin: float = 0.5,
) -> Tensor:
    """Cross-entropy of scaled cosines, with an angle added to that of the right class: a scalar.

    Deng, Guo, Xue, Zafeiriou, CVPR 2019. Where the angle would pass pi, the cosine falls linearly.

    Args:
        embeddings: ``[B, D]``, of length 1.
        classes: weights ``[C, D]``; taken at length 1.
        labels: int64 ``[B]``.
        scale: of the cosines.
        margin: the angle.
    """
    cosines = embeddings @ torch.nn.functional.normalize(classes).t()  # [B, C]
    right = cosines.gather(1, labels[:, None]).clamp(-1 + 1e-6, 1 - 1e-6)  # [B, 1]
    angle = torch.tensor(margin, dtype=right.dtype, device=right.device)
    turned = right * angle.cos() - (1 - right.square()).sqrt() * angle.sin()
    turned = torch.where(right > -angle.cos(), turned, right - 1 + angle.cos())
    return torch.nn.functional.cross_entropy(scale * cosines.scatter(1, labels[:, None], turned),
                                             labels)
