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

    @staticmethod
    def fraction(density: float) -> Keep:
        """Keep ``size - floor((1 - density) * size)`` units of every pool."""
        if not 0 < density <= 1:
            raise PatternError(f"Density must lie in (0, 1], not {density}.")
        return Keep("fraction", float(density))

    @staticmethod
    def count(units: int) -> Keep:
        """Keep exactly this many units of every pool."""
        if units < 0 or units != int(units):
            raise PatternError(f"A count must be a whole number of at least 0, not {units}.")
        return Keep("count", int(units))

    @staticmethod
    def above(threshold: float) -> Keep:
        """Keep every unit whose score is greater than the threshold."""
        return Keep("above", float(threshold))

    @staticmethod
    def mass(share: float) -> Keep:
        """Keep the fewest best units whose scores add up to at least this share of the pool."""
        if not 0 < share <= 1:
            raise PatternError(f"A share of the score mass must lie in (0, 1], not {share}.")
        return Keep("mass", float(share))

    def units(self, pool: int) -> int:
        """Units kept of a pool of this size, for `fraction` and `count`."""
        if self.kind == "count":
            if self.value > pool:
                raise PatternError(f"Cannot keep {int(self.value)} units of a pool of {pool}.")
            return int(self.value)
        if self.kind != "fraction":
            raise PatternError(f"A budget by {self.kind} depends on the scores.")
        # The tiny term undoes binary rounding: (1 - 0.7) * 10 must floor to 3, not 2.
        return pool - math.floor((1 - self.value) * pool + 1e-9 * pool)
