"""channel_groups: adjacent output rows share their kept inputs, every group equally many.

Parts: values ``[groups, kept, G]``: for every kept input the weights of the group's G rows;
columns ``[groups, kept]``: those inputs, uint16 where cols <= 65536, else int32, ascending. Rows
that the last group has too many are zeros.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn.functional import pad

from gossamer.core import PatternError, Support, SupportError
from gossamer.core import channel_groups as groups_pattern
from gossamer.core.bits import unpack_bits
from gossamer.layout.packed import (
    Layout,
    Packed,
    check_columns,
    column_dtype,
    expect,
)

_SIZES = (32, 16, 8, 4)  # groups that are looked for where no pattern names them


def _shared(support: Support, size: int) -> Tensor | None:
    """Boolean ``[groups, cols]`` of kept inputs; None where rows or counts of groups differ."""
    mask = support.mask()
    kept = mask[::size]
    same = (kept.repeat_interleave(size, 0)[: len(mask)] == mask).all()
    counts = kept.sum(1)
    return kept if bool(same) and bool((counts == counts[0]).all()) else None


def _bytes(kept: Tensor, size: int, itemsize: int) -> int:
    return int(kept.sum()) * (size * itemsize + column_dtype(kept.shape[1]).itemsize)


def _fit(support: Support, itemsize: int) -> tuple[int, Tensor] | None:
    """Rows of a group and kept inputs: the pattern's own, else the ones of least bytes."""
    rows, cols = support.shape
    if rows == 0 or cols == 0:
        return None
    height, width = support.pattern.unit
    sizes: tuple[int, ...] = (height,) if (height, width) != (1, 1) and width == 1 else ()
    if not sizes:
        first = unpack_bits(support.bits[:4], cols)  # four rows rule out nearly every matrix
        sizes = _SIZES if bool((first == first[0]).all()) else ()
    found = [(size, kept) for size in sizes if (kept := _shared(support, size)) is not None]
    return min(found, key=lambda fit: _bytes(fit[1], fit[0], itemsize)) if found else None


def _pack(weight: Tensor, support: Support) -> dict[str, Tensor]:
    fit = _fit(support, weight.element_size())
    if fit is None:
        raise PatternError(
            f"Layout channel_groups cannot hold a support of pattern {support.pattern} and shape "
            f"{support.shape}: adjacent rows do not share equally many inputs; choose it under a "
            "pattern such as groups8, or use bitmask."
        )
    size, kept = fit
    groups, cols = kept.shape
    kept = kept.to(weight.device)
    columns = kept.nonzero()[:, 1].view(groups, -1)
    grown = pad(weight, (0, 0, 0, groups * size - weight.shape[0])).view(groups, size, cols)
    places = columns[:, None].expand(-1, size, -1)
    return {
        "values": grown.gather(2, places).transpose(1, 2).contiguous(),
        "columns": columns.to(column_dtype(cols)),
    }


def _spread(packed: Packed, values: Tensor) -> Tensor:
    groups, _, size = values.shape
    rows, cols = packed.shape
    places = packed.parts["columns"].long()[:, None].expand(-1, size, -1)
    dense = values.new_zeros(groups, size, cols).scatter_(2, places, values.transpose(1, 2))
    return dense.view(groups * size, cols)[:rows].contiguous()


def _unpack(packed: Packed) -> Tensor:
    return _spread(packed, packed.values)


def _support(packed: Packed) -> Support:
    mask = torch.ones(packed.values.shape, dtype=torch.bool, device=packed.device)
    return Support.of(_spread(packed, mask), groups_pattern(packed.values.shape[2]))


def _nbytes(support: Support, itemsize: int) -> int | None:
    fit = _fit(support, itemsize)
    return None if fit is None else _bytes(fit[1], fit[0], itemsize)


def _check(packed: Packed) -> None:
    (rows, cols), values = packed.shape, packed.values
    if values.dim() != 3 or values.shape[2] < 2 or values.shape[0] != -(-rows // values.shape[2]):
        raise SupportError(
            f"The values of a channel_groups matrix of {rows} rows must be [groups, kept, G], G "
            f"at least 2, with as many groups as it takes, not of shape {tuple(values.shape)}."
        )
    groups, kept, size = values.shape
    expect(packed, "values", None, (groups, kept, size))
    expect(packed, "columns", column_dtype(cols), (groups, kept))
    check_columns(packed)


CHANNEL_GROUPS = Layout(
    "channel_groups", ("values", "columns"), _pack, _unpack, _support, _nbytes, _check
)
