"""Packed: a sparse matrix as the tensors that are stored, and the layout that reads them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from gossamer.core import Support, SupportError


@dataclass(frozen=True, eq=False)
class Packed:
    """A matrix ``[rows, cols]`` held in the parts of one layout.

    Args:
        layout: name of the layout, a key of `gossamer.layout.LAYOUTS`.
        shape: rows and columns of the dense matrix.
        parts: the stored tensors by name; "values" is always there. They are exactly what is
            saved: nothing derived, nothing padded.
    """

    layout: str
    shape: tuple[int, int]
    parts: dict[str, Tensor]

    @property
    def values(self) -> Tensor:
        """The kept weights."""
        return self.parts["values"]

    @property
    def dtype(self) -> torch.dtype:
        """Data type of the kept weights."""
        return self.values.dtype

    @property
    def device(self) -> torch.device:
        """Where the parts lie."""
        return self.values.device

    @property
    def nbytes(self) -> int:
        """Bytes of all parts, as in memory so on disk."""
        return sum(part.numel() * part.element_size() for part in self.parts.values())

    def to(self, device: torch.device | str) -> Packed:
        """The same matrix with its parts on another device."""
        moved = {name: part.to(device) for name, part in self.parts.items()}
        return Packed(self.layout, self.shape, moved)

    @cached_property
    def starts(self) -> Tensor | None:
        """int64 ``[rows + 1]``: where each row's values begin; None where rows are equally long.

        In a layout of blocks it is where each row of blocks begins, among the blocks. Derived
        from the parts at first use and never stored.
        """
        from gossamer.layout import layout_of  # the registry imports this file

        return layout_of(self.layout).starts(self)

    @cached_property
    def operands(self) -> tuple[Tensor, ...]:
        """What kernels take: the parts in the layout's order, then the starts where it has them."""
        from gossamer.layout import layout_of  # as above

        stored = tuple(self.parts[name] for name in layout_of(self.layout).parts)
        return stored if self.starts is None else (*stored, self.starts)

    def validate(self) -> None:
        """Raise SupportError where the parts contradict the shape or one another.

        Kernels trust parts that passed here; the answer is kept, since parts do not change.
        """
        _ = self._valid

    @cached_property
    def _valid(self) -> bool:
        from gossamer.layout import check_packed  # as above

        check_packed(self)
        return True


@dataclass(frozen=True)
class Layout:
    """How one layout turns a matrix into parts and back; every field is a plain function.

    Args:
        name: the layout's name.
        parts: names of its parts, "values" first.
        pack: ``(weight, support) -> parts``; weight is ``[rows, cols]``, already in its dtype.
        unpack: ``packed -> weight``, exact.
        support: ``packed -> Support``.
        nbytes: ``(support, bytes a value) -> bytes`` of the parts, None where it cannot hold it.
        check: raises SupportError where parts and shape contradict one another.
        starts: ``packed -> int64 [rows + 1]`` or None; see `Packed.starts`.
        any_weight: False where it holds only some weights, such as those on a grid; "auto" then
            passes it over, and ``nbytes`` speaks of those that it holds.
    """

    name: str
    parts: tuple[str, ...]
    pack: Callable[[Tensor, Support], dict[str, Tensor]]
    unpack: Callable[[Packed], Tensor]
    support: Callable[[Packed], Support]
    nbytes: Callable[[Support, int], int | None]
    check: Callable[[Packed], None]
    starts: Callable[[Packed], Tensor | None] = lambda packed: None
    any_weight: bool = True


def row_starts(counts: Tensor) -> Tensor:
    """int64 ``[rows + 1]``: running totals of the row counts, from zero."""
    starts = torch.zeros(counts.numel() + 1, dtype=torch.int64, device=counts.device)
    torch.cumsum(counts, 0, out=starts[1:])
    return starts


def expect(packed: Packed, part: str, dtype: torch.dtype | None, shape: tuple[int, ...]) -> None:
    """Raise SupportError unless the part has this dtype (None: any float) and shape."""
    tensor = packed.parts[part]
    wrong_dtype = not tensor.is_floating_point() if dtype is None else tensor.dtype != dtype
    if wrong_dtype or tuple(tensor.shape) != shape:
        raise SupportError(
            f"Part {part!r} of a {packed.layout} matrix of shape {packed.shape} must be "
            f"{dtype or 'a float type'} of shape {shape}, not {tensor.dtype} of "
            f"{tuple(tensor.shape)}; the parts do not belong together."
        )


def column_dtype(cols: int) -> torch.dtype:
    """The narrower of uint16 and int32 that can name every column."""
    return torch.uint16 if cols <= 1 << 16 else torch.int32


def check_columns(packed: Packed) -> None:
    """Raise SupportError where a column index lies outside the matrix."""
    columns = packed.parts["columns"]
    if columns.numel() == 0 or columns.device.type == "meta":
        return
    wide = columns.to(torch.int32)
    low, high = int(wide.min()), int(wide.max())
    if low < 0 or high >= packed.shape[1]:
        raise SupportError(
            f"A {packed.layout} matrix of {packed.shape[1]} columns names column "
            f"{low if low < 0 else high}; its parts are damaged."
        )
