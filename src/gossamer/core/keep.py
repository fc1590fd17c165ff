"""Keep: the budget inside one pool."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

from gossamer.core.errors import PatternError


@dataclass(frozen=True)
class Keep:
    """How many units of one pool are kept; build it with the four constructors."""

    kind: Literal["fraction", "count", "above", "mass"]
    value: float

    def __post_init__(self) -> None:
        value = self.value
        if self.kind == "fraction" and not 0 < value <= 1:
            raise PatternError(f"Density must lie in (0, 1], not {value}.")
        if self.kind == "count" and not (0 <= value < math.inf and value == int(value)):
            raise PatternError(f"A count must be a whole number of at least 0, not {value}.")
        if self.kind == "above" and math.isnan(value):
            raise PatternError("A threshold must be a number, not nan.")
        if self.kind == "mass" and not 0 < value <= 1:
            raise PatternError(f"A share of the score mass must lie in (0, 1], not {value}.")

    @staticmethod
    def fraction(density: float) -> Keep:
        """Keep ``size - floor((1 - density) * size)`` units of every pool.

        >>> Keep.fraction(0.7).units(10)
        7
        """
        return Keep("fraction", density)

    @staticmethod
    def count(units: int) -> Keep:
        """Keep exactly this many units of every pool."""
        return Keep("count", units)

    @staticmethod
    def above(threshold: float) -> Keep:
        """Keep every unit whose score is greater than the threshold."""
        return Keep("above", threshold)

    @staticmethod
    def mass(share: float) -> Keep:
        """Keep the fewest best units whose scores add up to at least this share of the pool."""
        return Keep("mass", share)

    def units(self, pool: int) -> int:
        """Units kept of a pool of this size, for `fraction` and `count`."""
        if self.kind == "count":
            if self.value > pool:
                raise PatternError(f"Cannot keep {int(self.value)} units of a pool of {pool}.")
            return int(self.value)
        if self.kind != "fraction":
            raise PatternError(f"A budget by {self.kind} depends on the scores.")
        # The tiny term undoes binary rounding: (1 - 0.9) * 10 must floor to 1, not 0. It is
        # relative to the pool and reaches a whole unit only beyond 10 ** 12 of them.
        return pool - math.floor((1 - self.value) * pool + 1e-12 * pool)
