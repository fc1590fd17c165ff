"""condensed: constant fan-in, the same number k of kept values in every row.

Parts: values ``[rows, k]``; columns ``[rows, k]``, uint16 where cols <= 65536, else int32,
ascending in each row.
"""

from __future__ import annotations

import torch
from torch import Tensor

from gossamer.core import PatternError, Support
from gossamer.layout.packed import (
    Layout,
    Packed,
    check_columns,
    column_dtype,
    expect,
)


def _fan_in(support: Support) -> int | None:
    """Kept entries of every row, None where rows differ."""
    counts = support.row_counts()
    if counts.numel() == 0:
        return 0
    return int(counts[0]) if bool((counts == counts[0]).all()) else None


def _pack(weight: Tensor, support: Support) -> dict[str, Tensor]:
    rows, cols = weight.shape
    kept = _fan_in(support)
    if kept is None:
        counts = support.row_counts()
        raise PatternError(
            f"Layout condensed needs the same count in every row, not {int(counts.min())} to "
            f"{int(counts.max())}; use csr or bitmask."
        )
    mask = support.mask().to(weight.device)
    columns = mask.nonzero()[:, 1].to(column_dtype(cols))
    return {"values": weight[mask].view(rows, kept), "columns": columns.view(rows, kept)}


def _unpack(packed: Packed) -> Tensor:
    dense = packed.values.new_zeros(packed.shape)
    return dense.scatter_(1, packed.parts["columns"].long(), packed.values)


def _support(packed: Packed) -> Support:
    mask = torch.zeros(packed.shape, dtype=torch.bool, device=packed.device)
    return Support.of(mask.scatter_(1, packed.parts["columns"].long(), True))


def _nbytes(support: Support, itemsize: int) -> int | None:
    rows, cols = support.shape
    kept = _fan_in(support)
    return None if kept is None else rows * kept * (itemsize + column_dtype(cols).itemsize)


def _check(packed: Packed) -> None:
    rows, cols = packed.shape
    kept = packed.values.shape[-1] if packed.values.dim() else 0
    expect(packed, "values", None, (rows, kept))
    expect(packed, "columns", column_dtype(cols), (rows, kept))
    check_columns(packed)


CONDENSED = Layout(
    "condensed", ("values", "columns"), _pack, _unpack, _support, _nbytes, _check
)
