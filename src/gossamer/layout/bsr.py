"""bsr: whole blocks of the matrix, row of blocks by row of blocks.

Parts: values ``[blocks, height, width]``; columns ``[blocks]``: the column of blocks that each
stands in, uint16 where there are at most 65536, else int32, ascending in each row of blocks;
row_counts int32 ``[rows / height]``: blocks in each row of blocks.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from gossamer.core import PatternError, Support, SupportError
from gossamer.core import block as block_pattern
from gossamer.core.bits import unpack_bits
from gossamer.core.support import tiles
from gossamer.layout.packed import (
    Layout,
    Packed,
    check_columns,
    column_dtype,
    expect,
    row_starts,
)

_SIDES = (64, 32, 16, 8, 4)  # of square blocks that are looked for where no pattern names them


def _whole(mask: Tensor, height: int, width: int) -> Tensor | None:
    """Boolean ``[rows / height, cols / width]`` of kept blocks; None where a block is cut."""
    if mask.shape[0] % height or mask.shape[1] % width:
        return None
    cells = tiles(mask, height, width)
    kept = cells.any(3).any(1)
    return kept if bool((kept == cells.all(3).all(1)).all()) else None


def _bytes(kept: Tensor, block: tuple[int, int], itemsize: int) -> int:
    height, width = block
    each = height * width * itemsize + column_dtype(kept.shape[1]).itemsize
    return int(kept.sum()) * each + 4 * kept.shape[0]


def _fit(support: Support, itemsize: int) -> tuple[tuple[int, int], Tensor] | None:
    """Block and kept blocks: of the support's pattern, else the square ones of least bytes."""
    rows, cols = support.shape
    if rows == 0 or cols == 0:
        return None
    if support.pattern.unit != (1, 1):
        kept = _whole(support.mask(), *support.pattern.unit)
        return None if kept is None else (support.pattern.unit, kept)
    # The first rows rule out nearly every matrix, and blocks of 4 hold wherever larger ones do.
    if rows % 4 or cols % 4 or _whole(unpack_bits(support.bits[:4], cols), 4, 4) is None:
        return None
    mask = support.mask()
    found = [((side, side), kept) for side in _SIDES
             if (kept := _whole(mask, side, side)) is not None]
    return min(found, key=lambda fit: _bytes(fit[1], fit[0], itemsize)) if found else None


def _pack(weight: Tensor, support: Support) -> dict[str, Tensor]:
    fit = _fit(support, weight.element_size())
    if fit is None:
        raise PatternError(
            f"Layout bsr cannot hold a support of pattern {support.pattern} and shape "
            f"{support.shape}: it does not keep whole blocks; choose it under a pattern such as "
            "16x16, or use bitmask."
        )
    (height, width), kept = fit
    kept = kept.to(weight.device)
    blocks = tiles(weight.contiguous(), height, width).transpose(1, 2)  # [rows of blocks, .., h, w]
    return {
        "values": blocks[kept],
        "columns": kept.nonzero()[:, 1].to(column_dtype(kept.shape[1])),
        "row_counts": kept.sum(1, dtype=torch.int32),
    }


def _spread(packed: Packed, values: Tensor) -> Tensor:
    """The matrix with these blocks in their places."""
    (rows, cols), (_, height, width) = packed.shape, packed.values.shape
    counts = packed.parts["row_counts"].long()
    row = torch.arange(rows // height, device=counts.device).repeat_interleave(counts)
    grid = values.new_zeros(rows // height, cols // width, height, width)
    grid[row, packed.parts["columns"].long()] = values
    return grid.transpose(1, 2).reshape(rows, cols)


def _unpack(packed: Packed) -> Tensor:
    return _spread(packed, packed.values)


def _support(packed: Packed) -> Support:
    _, height, width = packed.values.shape
    mask = torch.ones(packed.values.shape, dtype=torch.bool, device=packed.device)
    return Support.of(_spread(packed, mask), block_pattern(height, width))


def _nbytes(support: Support, itemsize: int) -> int | None:
    fit = _fit(support, itemsize)
    return None if fit is None else _bytes(fit[1], fit[0], itemsize)


class Plan(NamedTuple):
    """In which order the blocks are gone through, by rows and by columns; all int64.

    Args:
        row_starts: ``[rows of blocks + 1]``: where each row begins among the blocks as stored.
        column_starts: ``[columns of blocks + 1]``: where each column begins in ``order``.
        order: ``[blocks]``: the blocks column by column.
        rows: ``[blocks]``: the row of each block in that order.
        longest_rows: ``[rows of blocks]``: rows with most blocks first.
        longest_columns: ``[columns of blocks]``: columns with most blocks first.
    """

    row_starts: Tensor
    column_starts: Tensor
    order: Tensor
    rows: Tensor
    longest_rows: Tensor
    longest_columns: Tensor


def plan_of(starts: Tensor, shape: tuple[int, int], values: Tensor) -> Plan:
    """The views of `Packed.starts` of a bsr matrix of this shape."""
    blocks, height, width = values.shape
    down, across = shape[0] // height, shape[1] // width
    return Plan(*torch.split(starts, [down + 1, across + 1, blocks, blocks, down, across]))


def _starts(packed: Packed) -> Tensor:
    """The row starts, and behind them the rest of `Plan`: it takes longer than a product."""
    (_, cols), (blocks, _, width) = packed.shape, packed.values.shape
    counts, columns = packed.parts["row_counts"], packed.parts["columns"].int()
    row_starts_, order = row_starts(counts), columns.argsort(stable=True)
    each = torch.arange(cols // width + 1, device=columns.device, dtype=torch.int32)
    column_starts = torch.searchsorted(columns[order], each)
    row = torch.arange(counts.numel(), device=columns.device)
    rows = row.repeat_interleave(counts.long(), output_size=blocks)[order]
    longest = (starts.diff().argsort(descending=True, stable=True)
               for starts in (row_starts_, column_starts))
    return torch.cat([row_starts_, column_starts, order, rows, *longest])


def _check(packed: Packed) -> None:
    (rows, cols), values = packed.shape, packed.values
    if values.dim() != 3 or 0 in values.shape[1:] or rows % values.shape[1] or (
        cols % values.shape[2]
    ) or values.shape[1:].numel() == 1:
        raise SupportError(
            f"The values of a bsr matrix of shape {packed.shape} must be [blocks, height, width] "
            f"with blocks of several weights that tile it, not of shape {tuple(values.shape)}."
        )
    blocks, height, width = values.shape
    across = cols // width
    expect(packed, "values", None, (blocks, height, width))
    expect(packed, "columns", column_dtype(across), (blocks,))
    expect(packed, "row_counts", torch.int32, (rows // height,))
    if values.device.type == "meta":
        return
    counts = packed.parts["row_counts"]
    total = int(counts.sum(dtype=torch.int64))
    if total != blocks or (counts.numel() and not 0 <= int(counts.min()) <= (
            int(counts.max())) <= across):
        raise SupportError(
            f"The row counts of a bsr matrix add up to {total} for {blocks} blocks; "
            "the parts do not belong together."
        )
    check_columns(packed, row_starts(counts), across)


BSR = Layout(
    "bsr", ("values", "columns", "row_counts"), _pack, _unpack, _support, _nbytes, _check, _starts
)
