"""Kernel: what a packed product costs apart from reading memory, fitted to measured times."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from gossamer.core import DataError


@dataclass(frozen=True)
class Sample:
    """A product that was timed with everything in the cache.

    Args:
        positions: entries of the matrix, kept or not.
        kept: entries that are stored.
        batch: inputs.
        seconds: time of one product.
        nbytes: bytes of the packed matrix.
    """

    positions: int
    kept: int
    batch: int
    seconds: float
    nbytes: int


@dataclass(frozen=True)
class Costs:
    """Seconds of a product with so many inputs: ``call + position * P + kept * K``.

    Args:
        batch: inputs.
        call: of a call, whatever its size.
        position: of each entry of the matrix.
        kept: of each stored entry, besides.
    """

    batch: int
    call: float
    position: float
    kept: float

    def seconds(self, positions: float, kept: float) -> float:
        """Time of one product."""
        return self.call + self.position * positions + self.kept * kept


@dataclass(frozen=True)
class Kernel:
    """Seconds of a product whose bytes are at hand, by size, kept weights and inputs.

    Args:
        layout: of the packed matrix; ``torch`` for torch's dense product.
        dtype: of the stored values.
        pattern: the pattern that it was fitted to.
        costs: at each batch that was measured, ascending.
        sizes: bytes of a position and of a kept weight.
        error: greatest relative error of the fit over its samples.
    """

    layout: str
    dtype: str
    pattern: str
    costs: tuple[Costs, ...]
    sizes: tuple[float, float]
    error: float

    def seconds(self, positions: float, kept: float, batch: int) -> float:
        """Time of a product whose bytes need not come from memory.

        Between the batches that were measured it is interpolated; beyond the last it grows in
        proportion.

        >>> costs = (Costs(1, 1.0, 0.0, 0.5), Costs(3, 1.0, 0.0, 1.0))
        >>> kernel = Kernel("csr", "float32", "rows", costs, (0.0, 6.0), 0.0)
        >>> kernel.seconds(8, 4, 1), kernel.seconds(8, 4, 2), kernel.seconds(8, 4, 6)
        (3.0, 4.0, 10.0)
        """
        first, last = self.costs[0], self.costs[-1]
        if batch <= first.batch:
            return first.seconds(positions, kept)
        for below, above in pairwise(self.costs):
            if batch <= above.batch:
                share = (batch - below.batch) / (above.batch - below.batch)
                return (1 - share) * below.seconds(positions, kept) + share * above.seconds(
                    positions, kept)
        return last.seconds(positions, kept) * batch / last.batch

    def nbytes(self, positions: float, kept: float) -> float:
        """Bytes of a packed matrix."""
        return self.sizes[0] * positions + self.sizes[1] * kept


def fit(layout: str, dtype: str, pattern: str, samples: Sequence[Sample]) -> Kernel:
    """The kernel whose costs, none of them negative, come nearest to the samples.

    Relative errors are made small in the mean of squares, for each batch apart.

    Raises:
        DataError: fewer than two samples, or a time that is not positive.
    """
    if len(samples) < 2 or min(sample.seconds for sample in samples) <= 0:
        raise DataError("A kernel's costs are fitted to at least two times above zero.")
    costs, error = [], 0.0
    for batch in sorted({sample.batch for sample in samples}):
        some = [sample for sample in samples if sample.batch == batch]
        terms = np.array([[1.0, s.positions, s.kept] for s in some])
        terms /= np.array([s.seconds for s in some])[:, None]
        found = _non_negative(terms, np.ones(len(some)))
        error = max(error, float(np.abs(terms @ found - 1).max()))
        costs.append(Costs(batch, *(float(cost) for cost in found)))
    shares = np.array([[s.positions / s.nbytes, s.kept / s.nbytes] for s in samples])
    position, kept = _non_negative(shares, np.ones(len(samples)))
    return Kernel(layout, dtype, pattern, tuple(costs), (float(position), float(kept)), error)


def _non_negative(terms: np.ndarray, wanted: np.ndarray) -> np.ndarray:
    """The non-negative least squares solution; so few columns that every subset is tried."""
    columns = terms.shape[1]
    best, least = np.zeros(columns), np.inf
    for chosen in range(1, 1 << columns):
        used = [i for i in range(columns) if chosen >> i & 1]
        scale = np.abs(terms[:, used]).max(0)
        if not scale.all():
            continue
        found = np.linalg.lstsq(terms[:, used] / scale, wanted, rcond=None)[0] / scale
        error = float(((terms[:, used] @ found - wanted) ** 2).sum())
        # A larger subset has to be better by more than rounding.
        if (found >= 0).all() and error < least - 1e-12:
            best, least = np.zeros(columns), error
            best[used] = found
    return best
