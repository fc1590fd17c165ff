"""ablated: the same number k of kept values in every active row; rows that keep nothing are left
out.

Parts: values ``[active, k]``; columns ``[active, k]``, uint16 where cols <= 65536, else int32,
ascending in each row; active ``[active]``: the rows that keep something, uint16 where
rows <= 65536, else int32, ascending. Without active rows k is 0.
"""

from __future__ import annotations

import torch
from torch import Tensor

from gossamer.core import PatternError, Support, SupportError
from gossamer.layout.packed import (
    Layout,
    Packed,
    check_columns,
    column_dtype,
    expect,
)


def _fan_in(support: Support) -> tuple[Tensor, int] | None:
    """The active rows and their count of kept entries; None where that differs."""
    counts = support.row_counts()
    active = counts.nonzero().flatten()
    if len(active) == 0:
        return active, 0
    first = int(counts[active[0]])
    return (active, first) if bool((counts[active] == first).all()) else None


def _pack(weight: Tensor, support: Support) -> dict[str, Tensor]:
    found = _fan_in(support)
    if found is None:
        raise PatternError(
            "Layout ablated needs the same count in every row that keeps anything; use csr or "
            "bitmask."
        )
    active, kept = found
    rows, cols = weight.shape
    mask = support.mask().to(weight.device)
    return {
        "values": weight[mask].view(len(active), kept),
        "columns": mask.nonzero()[:, 1].to(column_dtype(cols)).view(len(active), kept),
        "active": active.to(weight.device, column_dtype(rows)),
    }


def _spread(packed: Packed, values: Tensor) -> Tensor:
    dense = values.new_zeros(packed.shape)
    some = values.new_zeros(len(values), packed.shape[1])
    some.scatter_(1, packed.parts["columns"].long(), values)
    dense[packed.parts["active"].long()] = some
    return dense


def _unpack(packed: Packed) -> Tensor:
    return _spread(packed, packed.values)


def _support(packed: Packed) -> Support:
    mask = torch.ones(packed.values.shape, dtype=torch.bool, device=packed.device)
    return Support.of(_spread(packed, mask))


def _nbytes(support: Support, itemsize: int) -> int | None:
    found = _fan_in(support)
    if found is None:
        return None
    (active, kept), (rows, cols) = found, support.shape
    each = kept * (itemsize + column_dtype(cols).itemsize) + column_dtype(rows).itemsize
    return len(active) * each


def _check(packed: Packed) -> None:
    rows, cols = packed.shape
    count, kept = packed.values.shape if packed.values.dim() == 2 else (0, 0)
    expect(packed, "values", None, (count, kept))
    expect(packed, "columns", column_dtype(cols), (count, kept))
    expect(packed, "active", column_dtype(rows), (count,))
    if packed.device.type == "meta" or count == 0:
        return
    check_columns(packed)
    active = packed.parts["active"].to(torch.int32)
    if int(active[0]) < 0 or int(active[-1]) >= rows or bool((active.diff() <= 0).any()):
        raise SupportError(
            f"The active rows of an ablated matrix of {rows} rows must ascend inside it; they go "
            f"from {int(active.min())} to {int(active.max())}, so its parts are damaged."
        )


ABLATED = Layout(
    "ablated", ("values", "columns", "active"), _pack, _unpack, _support, _nbytes, _check
)
