"""Sketch: a histogram of scores that is small, exact in its counts, and can be merged."""

from __future__ import annotations

from dataclasses import dataclass, field

import torch
from torch import Tensor

from gossamer.core.errors import DataError

# A bin is a float32 without its last 15 bits: sign and exponent, and 8 bits of the mantissa.
_DROPPED = 15
_BINS = 1 << (32 - 1 - _DROPPED)
_CHUNK = 1 << 22


@dataclass(frozen=True, eq=False)
class Sketch:
    """Counts of scores of at least 0 in bins whose width is 1/256 of the power of two below.

    Two scores share a bin only where they differ by less than 0.4 %; their order inside a bin
    is lost, everything else is exact.

    Args:
        first: number of the first bin that is stored.
        counts: int64 ``[bins]`` on the CPU; bins outside are empty.

    >>> Sketch.of(torch.tensor([0.0, 1.0, 1.001, 2.0])).counts.sum().item()
    4
    """

    first: int = 0
    counts: Tensor = field(default_factory=lambda: torch.zeros(0, dtype=torch.int64))

    @staticmethod
    def of(scores: Tensor) -> Sketch:
        """The sketch of a tensor of scores of any shape."""
        return Sketch().add(scores)

    def add(self, scores: Tensor) -> Sketch:
        """A sketch that also counts these scores.

        Raises:
            DataError: a score is NaN or negative.
        """
        flat = scores.detach().reshape(-1)
        counts = torch.zeros(_BINS, dtype=torch.int64, device=flat.device)
        for part in torch.split(flat, _CHUNK):
            # Adding 0 turns -0.0 into 0.0, whose bits are 0.
            bits = (part.float() + 0.0).view(torch.int32)
            if bool((bits < 0).any()) or bool(torch.isnan(part).any()):
                raise DataError("A sketch needs scores of at least 0 without NaN; check the score.")
            counts += torch.bincount(bits >> _DROPPED, minlength=_BINS)
        return self.merge(_trimmed(0, counts.cpu()))

    def merge(self, other: Sketch) -> Sketch:
        """The sketch of both sets of scores together."""
        first = min(self.first, other.first)
        last = max(self.last, other.last)
        return _trimmed(first, self.over(first, last) + other.over(first, last))

    @property
    def last(self) -> int:
        """Number of the bin after the last one that is stored."""
        return self.first + len(self.counts)

    def over(self, first: int, last: int) -> Tensor:
        """int64 ``[last - first]``: counts of these bins, which must contain all stored ones."""
        return torch.nn.functional.pad(self.counts, (self.first - first, last - self.last))

    @property
    def total(self) -> int:
        """Number of scores counted."""
        return int(self.counts.sum())


def _trimmed(first: int, counts: Tensor) -> Sketch:
    used = counts.nonzero().flatten()
    if len(used) == 0:
        return Sketch()
    low, high = int(used[0]), int(used[-1]) + 1
    return Sketch(first + low, counts[low:high].clone())
