"""How much of a planted truth was recovered."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from gossamer.core.errors import DataError
from gossamer.core.support import Support


@dataclass(frozen=True)
class Recovery:
    """Shares of a found support that are true, and of the true support that are found."""

    precision: float
    recall: float

    @property
    def f1(self) -> float:
        """Harmonic mean of precision and recall; 0 where both are 0."""
        both = self.precision + self.recall
        return 2 * self.precision * self.recall / both if both else 0.0


def recovery(found: Support, truth: Support) -> Recovery:
    """Precision and recall of a found support; an empty one has precision 1, of nothing recall 1.

    >>> import torch
    >>> found, truth = (Support.of(torch.tensor([row])) for row in ([True, True, False],
    ...                                                             [True, False, True]))
    >>> recovery(found, truth)
    Recovery(precision=0.5, recall=0.5)
    """
    hits = (found & truth).nnz
    return Recovery(hits / found.nnz if found.nnz else 1.0, hits / truth.nnz if truth.nnz else 1.0)


def relative_output_error(dense: Tensor, pruned: Tensor, gram: Tensor) -> float:
    """||(W - W') X||^2 / ||W X||^2, computed in float64 from the inputs' Gram matrix.

    Args:
        dense, pruned: W and W' ``[outputs, features]``.
        gram: X X^T ``[features, features]`` up to any factor; a sample's ``x.t() @ x``, or
            `Gaussian.gram` for the expected error without sampling noise.

    Raises:
        DataError: the shapes do not fit.
    """
    if dense.shape != pruned.shape or gram.shape != (dense.shape[1], dense.shape[1]):
        raise DataError(
            f"Weights of {tuple(dense.shape)} and {tuple(pruned.shape)} need one shape and a Gram "
            f"matrix of their width, not {tuple(gram.shape)}."
        )
    wide, change = dense.double(), dense.double() - pruned.double()
    product = gram.double()
    return float(((change @ product) * change).sum() / ((wide @ product) * wide).sum())
