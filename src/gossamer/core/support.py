"""Support: which entries of a tensor are kept, as an immutable value of packed bits."""

from __future__ import annotations

from dataclasses import dataclass, field

import torch
from torch import Tensor

from gossamer.core.bits import count_bits, pack_bits, row_bytes, unpack_bits
from gossamer.core.errors import PatternError, SupportError
from gossamer.core.grouped import arrange
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

    def __post_init__(self) -> None:
        rows, cols = self.shape
        if self.bits.dtype != torch.uint8 or tuple(self.bits.shape) != (rows, row_bytes(cols)):
            raise SupportError(
                f"Bits for {rows}x{cols} must be uint8 of shape {(rows, row_bytes(cols))}, "
                f"not {self.bits.dtype} of shape {tuple(self.bits.shape)}."
            )
        if cols % 8 and bool((self.bits[:, -1] >> (cols % 8)).any()):
            raise SupportError(f"Bits beyond column {cols - 1} must be 0; the bits are damaged.")

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
        """Raise PatternError where a unit is cut or a pool keeps more than the pattern's count.

        A pool may keep fewer: an N:M support whose groups hold at most N entries is N:M.
        """
        pattern.fits(*self.shape)
        if pattern.grouped is not None:
            if self.nnz and arrange(self.mask(), *pattern.grouped) is None:
                raise PatternError(f"No order of the rows makes the support {pattern}.")
            return
        height, width = pattern.unit
        cells = tiles(self.mask(), height, width)
        units = cells.any(3).any(1)
        if bool((units != cells.all(3).all(1)).any()):
            raise PatternError(f"The support cuts through {height}x{width} blocks.")
        if pattern.exact is not None and units.numel():
            high, wide = (pattern.pool[0] or height) // height, (pattern.pool[1] or width) // width
            worst = int(tiles(units, high, wide).sum((1, 3)).max())
            if worst > pattern.exact:
                raise PatternError(f"The support keeps {worst} in a group, which is not {pattern}.")

    def _same(self, shape: tuple[int, ...]) -> None:
        if shape != self.shape:
            raise SupportError(f"A support of shape {self.shape} does not fit a tensor of {shape}.")

    def _other(self, other: Support) -> Tensor:
        self._same(other.shape)
        return other.bits.to(self.bits.device)

    def __and__(self, other: Support) -> Support:
        return Support(self.shape, self.bits & self._other(other))

    def __or__(self, other: Support) -> Support:
        return Support(self.shape, self.bits | self._other(other))

    def __sub__(self, other: Support) -> Support:
        return Support(self.shape, self.bits & ~self._other(other))

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Support):
            return NotImplemented
        return self.shape == other.shape and torch.equal(self.bits, self._other(other))

    __hash__ = None  # type: ignore[assignment]


def tiles(matrix: Tensor, height: int, width: int) -> Tensor:
    """``[rows, cols]`` as ``[rows / height, height, cols / width, width]``."""
    rows, cols = matrix.shape
    return matrix.reshape(rows // height, height, cols // width, width)
