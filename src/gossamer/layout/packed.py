"""Packed: a sparse matrix as the tensors that are stored, and the layout that reads them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import torch
from torch import Tensor

from gossamer.core import Support, SupportError

# Dtypes of values that are not codes.
FLOATS = frozenset((torch.float64, torch.float32, torch.float16, torch.bfloat16))
_MOST = 1 << 31


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
    _starts: tuple[Tensor | None] | None = field(default=None, init=False, repr=False)
    _operands: tuple[Tensor, ...] | None = field(default=None, init=False, repr=False)
    _valid: bool = field(default=False, init=False, repr=False)

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

    @property
    def starts(self) -> Tensor | None:
        """int64 ``[rows + 1]``: where each row's values begin; None where rows are equally long.

        In a layout of blocks it is where each row of blocks begins, among the blocks, and may go
        on with what else its kernels need. Derived from the parts at first use and never stored.
        """
        from gossamer.layout import layout_of  # the registry imports this file

        known = self._starts
        if known is None:
            known = (layout_of(self.layout).starts(self),)
            object.__setattr__(self, "_starts", known)
        return known[0]

    @property
    def operands(self) -> tuple[Tensor, ...]:
        """What kernels take: the parts in the layout's order, then the starts where it has them."""
        from gossamer.layout import layout_of  # as above

        known = self._operands
        if known is None:
            stored = tuple(self.parts[name] for name in layout_of(self.layout).parts)
            known = stored if self.starts is None else (*stored, self.starts)
            object.__setattr__(self, "_operands", known)
        return known

    def validate(self) -> None:
        """Raise SupportError where the parts contradict the shape or one another.

        Kernels trust parts that passed here. The answer and the operands are kept, since parts do
        not change; `torch.compile` then finds them, which cannot look into tensors itself.
        """
        from gossamer.layout import check_packed  # as above

        if not self._valid:
            check_packed(self)
            _ = self.operands
            object.__setattr__(self, "_valid", True)


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
    return torch.nn.functional.pad(counts.cumsum(0, dtype=torch.int64), (1, 0))


def check_frame(packed: Packed, names: tuple[str, ...]) -> None:
    """Raise SupportError unless shape and parts are what any layout with these parts has.

    That is two sides below 2^31, since kernels count columns in 32 bits, and exactly these parts,
    all of them plain tensors on one device: a kernel sees nothing but an address.
    """
    shape, parts = packed.shape, packed.parts
    if len(shape) != 2 or not all(type(side) is int and 0 <= side < _MOST for side in shape):
        raise SupportError(
            f"A packed matrix needs rows and columns from 0 to {_MOST - 1}, not {tuple(shape)}."
        )
    missing = [name for name in names if name not in parts]
    if missing or len(parts) > len(names):
        wrong = f"lacks the part {missing[0]!r}" if missing else f"has only {', '.join(names)}"
        raise SupportError(
            f"A {packed.layout} matrix {wrong}; this one has "
            f"{', '.join(sorted(map(str, parts))) or 'none'}."
        )
    for name, part in parts.items():
        if not isinstance(part, Tensor) or part.layout != torch.strided or part.is_neg():
            kind = f"{part.layout}" if isinstance(part, Tensor) else type(part).__name__
            raise SupportError(
                f"Part {name!r} of a {packed.layout} matrix must be a plain dense tensor, "
                f"not {kind}."
            )
        if part.device != packed.device:
            raise SupportError(
                f"Part {name!r} of a {packed.layout} matrix is on {part.device} and its values on "
                f"{packed.device}; move one of them."
            )


def expect(packed: Packed, part: str, dtype: torch.dtype | None, shape: tuple[int, ...]) -> None:
    """Raise SupportError unless the part has this dtype (None: one of `FLOATS`) and shape."""
    tensor = packed.parts[part]
    wrong_dtype = tensor.dtype not in FLOATS if dtype is None else tensor.dtype != dtype
    if wrong_dtype or tuple(tensor.shape) != shape:
        raise SupportError(
            f"Part {part!r} of a {packed.layout} matrix of shape {packed.shape} must be "
            f"{dtype or 'a float type of 16 bits and more'} of shape {shape}, not {tensor.dtype} "
            f"of {tuple(tensor.shape)}; the parts do not belong together."
        )


def column_dtype(cols: int) -> torch.dtype:
    """The narrower of uint16 and int32 that can name every column."""
    return torch.uint16 if cols <= 1 << 16 else torch.int32


def check_columns(
    packed: Packed, starts: Tensor | None = None, across: int | None = None
) -> None:
    """Raise SupportError unless the columns lie inside the matrix and ascend in every run.

    A column that stands twice in a row would count twice in a product and once when unpacked.

    Args:
        packed: with a part "columns".
        starts: int64, where each run of columns begins in the flattened part, and its end; None
            where a run is the part's last dimension.
        across: columns that there are, those of the matrix unless given.
    """
    part = packed.parts["columns"]
    columns = part.flatten()
    count, limit = columns.numel(), packed.shape[1] if across is None else across
    if count == 0 or columns.device.type == "meta":
        return
    wide = columns.to(torch.int32)
    low, high = int(wide.min()), int(wide.max())
    if low < 0 or high >= limit:
        raise SupportError(
            f"A {packed.layout} matrix of {limit} columns names column "
            f"{low if low < 0 else high}; its parts are damaged."
        )
    if starts is None:
        starts = torch.arange(0, count, part.shape[-1], device=part.device)
    falls = wide[1:] <= wide[:-1]
    falls[starts[(starts > 0) & (starts < count)] - 1] = False
    if bool(falls.any()):
        raise SupportError(
            f"The columns of a {packed.layout} matrix must ascend in every row, and after "
            f"{int(wide[:-1][falls][0])} comes {int(wide[1:][falls][0])}; its parts are damaged."
        )
