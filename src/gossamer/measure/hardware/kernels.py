"""Kernel: what a packed product costs apart from reading memory, from measured times."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import dataclass

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
    """Seconds of products at one batch and density: ``call + position * positions``.

    Args:
        batch: inputs.
        density: share of the entries that is stored.
        call: of a call, whatever its size.
        position: of each entry of the matrix, kept or not.
    """

    batch: int
    density: float
    call: float
    position: float


@dataclass(frozen=True)
class Kernel:
    """Seconds of a product whose bytes are at hand, by size, density and inputs.

    Args:
        layout: of the packed matrix; ``torch`` for torch's dense product.
        dtype: of the stored values.
        pattern: the pattern of the masks that it was measured with.
        costs: at every batch and density that was measured.
        sizes: bytes of a position and of a kept weight.
    """

    layout: str
    dtype: str
    pattern: str
    costs: tuple[Costs, ...]
    sizes: tuple[float, float]

    def seconds(self, positions: float, kept: float, batch: int) -> float:
        """Time of a product whose bytes need not come from memory.

        Between the densities and the batches that were measured it is interpolated; outside the
        densities it stays as at the nearest, beyond the last batch it grows in proportion.

        >>> costs = (Costs(1, 0.5, 1.0, 0.5), Costs(3, 0.5, 1.0, 1.0))
        >>> kernel = Kernel("csr", "float32", "rows", costs, (0.0, 6.0))
        >>> kernel.seconds(4, 2, 1), kernel.seconds(4, 2, 2), kernel.seconds(4, 2, 6)
        (3.0, 4.0, 10.0)
        """
        batches = sorted({costs.batch for costs in self.costs})
        times = [self._at(size, positions, kept) for size in batches]
        if batch > batches[-1]:
            return times[-1] * batch / batches[-1]
        return _between(batches, times, batch)

    def nbytes(self, positions: float, kept: float) -> float:
        """Bytes of a packed matrix."""
        return self.sizes[0] * positions + self.sizes[1] * kept

    def _at(self, batch: int, positions: float, kept: float) -> float:
        found = sorted((costs.density, costs.call + costs.position * positions)
                       for costs in self.costs if costs.batch == batch)
        densities, times = zip(*found)
        return _between(densities, times, kept / positions)


def from_samples(layout: str, dtype: str, pattern: str, pairs: Sequence[tuple[Sample, Sample]],
                 ) -> Kernel:
    """The kernel that takes the times of all samples.

    Args:
        layout: of the packed matrices.
        dtype: of the stored values.
        pattern: of the masks.
        pairs: of a large matrix and a small one of about its density, with equal batch; the small
            one tells what a call costs.

    Raises:
        DataError: no pair, or times and sizes that are not positive.
    """
    if not pairs or min(min(a.seconds, b.seconds, a.positions - b.positions)
                        for a, b in pairs) <= 0:
        raise DataError("A kernel is measured with pairs of a large and a small matrix and times "
                        "above zero.")
    costs = []
    for large, small in pairs:
        more = large.positions - small.positions
        position = max(large.seconds - small.seconds, 0.1 * large.seconds) / more
        call = max(large.seconds - position * large.positions, 0.0)
        costs.append(Costs(large.batch, large.kept / large.positions, call, position))
    return Kernel(layout, dtype, pattern, tuple(costs), _sizes([large for large, _ in pairs]))


def _sizes(samples: Sequence[Sample]) -> tuple[float, float]:
    """Bytes of a position and of a kept weight, from the densest and the sparsest matrix."""
    ordered = sorted(samples, key=lambda sample: sample.kept / sample.positions)
    first, last = ordered[0], ordered[-1]
    low, high = first.kept / first.positions, last.kept / last.positions
    if high - low < 1e-9:
        return 0.0, last.nbytes / last.kept
    kept = (last.nbytes / last.positions - first.nbytes / first.positions) / (high - low)
    return max(last.nbytes / last.positions - kept * high, 0.0), kept


def _between(places: Sequence[float], values: Sequence[float], place: float) -> float:
    """Linear interpolation over ascending places; the end values outside of them."""
    at = bisect_left(places, place)
    if at == 0 or at == len(places):
        return values[0] if at == 0 else values[-1]
    low, high = places[at - 1], places[at]
    share = (place - low) / (high - low)
    return (1 - share) * values[at - 1] + share * values[at]
