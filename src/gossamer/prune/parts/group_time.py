"""GroupTime: how long a layer takes whose groups of G outputs read a list of inputs.

Of the dense time a share 1 - s of the arithmetic is left, and with it 1 - s of the lists, each of
whose entries costs as much as alpha outputs of one input; the share beta stays whatever is pruned.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch

from gossamer.core import ConfigError, DataError


@dataclass(frozen=True)
class Measured:
    """One layer that was timed.

    Args:
        dense: seconds of the dense layer.
        sparsity: share of its inputs that every group leaves out.
        seconds: of the pruned layer.
    """

    dense: float
    sparsity: float
    seconds: float


@dataclass(frozen=True)
class GroupTime:
    """``t = t_dense ((1 - s) + alpha / G (1 - s) + beta)``.

    Args:
        alpha: cost of an entry of a list, in outputs of one input.
        beta: share of the dense time that pruning leaves.
        size: G, outputs of a group.

    >>> model = GroupTime(alpha=1.0, beta=0.02, size=8)
    >>> round(model.even, 2), round(1 / model.seconds(1.0, 0.3), 2)
    (0.13, 1.24)
    """

    alpha: float
    beta: float
    size: int

    def seconds(self, dense: float, sparsity: float) -> float:
        """Time of a layer with this share of every group's inputs pruned."""
        if not 0 <= sparsity < 1:
            raise ConfigError(f"Sparsity must lie in [0, 1), not {sparsity}.")
        return dense * ((1 - sparsity) * (1 + self.alpha / self.size) + self.beta)

    @property
    def even(self) -> float:
        """The sparsity at which a pruned layer takes as long as the dense one."""
        return (self.alpha / self.size + self.beta) / (1 + self.alpha / self.size)

    def error(self, measured: Sequence[Measured]) -> float:
        """Median of ``|predicted - measured| / measured``."""
        off = [abs(self.seconds(m.dense, m.sparsity) / m.seconds - 1) for m in measured]
        return float(torch.tensor(off, dtype=torch.float64).median())


def fit(measured: Sequence[Measured], size: int) -> GroupTime:
    """The model of least squared relative error; alpha and beta may come out negative.

    They do where the pruned kernel is quicker at its work than the dense one.

    Raises:
        DataError: fewer than two measurements, of fewer than two sparsities, or times that are
            not positive.

    >>> true = GroupTime(0.8, 0.05, 8)
    >>> found = fit([Measured(d, s, true.seconds(d, s)) for d, s in ((1.0, 0.3), (2.0, 0.5))], 8)
    >>> round(found.alpha, 6), round(found.beta, 6)
    (0.8, 0.05)
    """
    if len({m.sparsity for m in measured}) < 2 or min(
            min(m.dense, m.seconds) for m in measured) <= 0:
        raise DataError("Fitting the time of groups needs layers of two sparsities or more, with "
                        "times above zero.")
    # t / t_dense = (1 - s) (1 + alpha / G) + beta, weighted by t_dense / t.
    ratio = torch.tensor([m.seconds / m.dense for m in measured], dtype=torch.float64)
    left = torch.tensor([[1 - m.sparsity, 1.0] for m in measured], dtype=torch.float64)
    slope, beta = torch.linalg.lstsq(left / ratio[:, None],
                                     torch.ones_like(ratio)[:, None]).solution.flatten().tolist()
    return GroupTime((slope - 1) * size, beta, size)
