"""Support: which entries of a tensor are kept, as an immutable value of packed bits."""

from __future__ import annotations

from dataclasses import dataclass, field

import torch
from torch import Tensor

from gossamer.core.bits import count_bits, pack_bits, unpack_bits
from gossamer.core.errors import PatternError, SupportError
from gossamer.core.pattern import Pattern, unstructured


@dataclass(frozen=True, eq=False)
class Support:
    """The kept entries of a matrix.

    Args:
        shape: rows and columns of the matrix.
        bits: uint8 ``[rows, ceil(cols / 8)]``, least significant bit first.
        pattern: the pattern it was chosen under.

    >>> support = Support.of(torch.eye(4, dtype=torch.bool))
    >>> support.nnz, support.density
    (4, 0.25)
    """

    shape: tuple[int, int]
    bits: Tensor
    pattern: Pattern = field(default_factory=unstructured)

    @staticmethod
    def of(mask: Tensor, pattern: Pattern | None = None) -> Support:
        """Build a support from a boolean mask ``[rows, cols]``."""
        if mask.dim() != 2 or mask.dtype != torch.bool:
            raise SupportError(
                f"A support needs a boolean matrix, not {mask.dtype} of shape {tuple(mask.shape)}."
            )
        shape = (mask.shape[0], mask.shape[1])
        return Support(shape, pack_bits(mask), pattern or unstructured())

    @staticmethod
    def full(rows: int, cols: int) -> Support:
        """Everything kept."""
        return Support.of(torch.ones(rows, cols, dtype=torch.bool))

    def mask(self) -> Tensor:
        """Boolean ``[rows, cols]``, true where kept."""
        return unpack_bits(self.bits, self.shape[1])

    def indices(self) -> Tensor:
        """int64 ``[nnz, 2]`` of kept (row, column), in row-major order."""
        return self.mask().nonzero()

    def row_counts(self) -> Tensor:
        """int64 ``[rows]``: kept entries in each row."""
        return count_bits(self.bits)

    @property
    def nnz(self) -> int:
        """Number of kept entries."""
        return int(self.row_counts().sum())

    @property
    def density(self) -> float:
        """Kept entries over all entries."""
        return self.nnz / max(1, self.shape[0] * self.shape[1])

    def to(self, device: torch.device | str) -> Support:
        """The same support with its bits on another device."""
        return Support(self.shape, self.bits.to(device), self.pattern)

    def apply(self, weight: Tensor) -> Tensor:
        """The weight with zeros outside the support (exact zeros, also where it was NaN)."""
        self._same(tuple(weight.shape))
        return torch.where(self.mask().to(weight.device), weight, weight.new_zeros(()))

    def check(self, pattern: Pattern) -> None:
        """Raise PatternError where the support breaks the pattern."""
        pattern.fits(*self.shape)
        mask = self.mask()
        if pattern.unit != (1, 1):
            height, width = pattern.unit
            tiles = mask.unflatten(0, (-1, height)).unflatten(2, (-1, width))
            if bool((tiles.any(3).any(1) != tiles.all(3).all(1)).any()):
                raise PatternError(f"The support cuts through {height}x{width} blocks.")
        if pattern.is_nm:
            kept = mask.unflatten(1, (-1, pattern.pool[1] or 1)).sum(-1)
            worst = int(kept.max()) if kept.numel() else 0
            if worst > (pattern.exact or 0):
                raise PatternError(f"The support keeps {worst} in a group, which is not {pattern}.")

    def _same(self, shape: tuple[int, ...]) -> None:
        if shape != self.shape:
            raise SupportError(f"A support of shape {self.shape} does not fit a tensor of {shape}.")

    def _combine(self, other: Support, bits: Tensor) -> Support:
        self._same(other.shape)
        return Support(self.shape, bits)

    def __and__(self, other: Support) -> Support:
        return self._combine(other, self.bits & other.bits)

    def __or__(self, other: Support) -> Support:
        return self._combine(other, self.bits | other.bits)

    def __sub__(self, other: Support) -> Support:
        return self._combine(other, self.bits & ~other.bits)

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Support):
            return NotImplemented
        return self.shape == other.shape and torch.equal(self.bits, other.bits)

    __hash__ = None  # type: ignore[assignment]
