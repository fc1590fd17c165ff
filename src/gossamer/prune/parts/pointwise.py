"""1x1 convolutions: which they are, how to pack them, and what they cost."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from torch import Tensor, nn

from gossamer.core import Site, Support, UnsupportedError, block, sites, unstructured
from gossamer.edit import Swap
from gossamer.ops import PackedConv2d
from gossamer.ops.conv import FREE, Bounds

FILL = 0.9        # of the stored cells of blocks, from which on blocks pay
FEWEST = 2 / 3    # share of zeros over all 1x1 weights, from which on packing pays


def pointwise(model: nn.Module, match: str | None = None) -> list[Site]:
    """The sites that are 1x1 convolutions.

    Raises:
        UnsupportedError: there is none.
    """
    found = [site for site in sites(model, match) if isinstance(site.module, nn.Conv2d)
             and site.module.kernel_size == (1, 1)]
    if not found:
        raise UnsupportedError(
            f"{type(model).__name__} has no 1x1 convolution without groups, which is what is "
            "pruned here."
        )
    return found


def rows_together(mask: Tensor) -> int:
    """Four or two rows where the kept weights fill 90 % of such blocks' cells, else one.

    >>> import torch
    >>> rows_together(torch.eye(8, dtype=torch.bool).repeat_interleave(2, 0))
    2
    """
    for rows in (4, 2):
        if len(mask) % rows == 0 and int(mask.sum()) > 0:
            cells = rows * int(whole_blocks(mask, rows)[::rows].sum())
            if int(mask.sum()) >= FILL * cells:
                return rows
    return 1


def whole_blocks(mask: Tensor, rows: int) -> Tensor:
    """The mask with every block of so many rows kept where any of its weights is."""
    blocks = mask.view(-1, rows, mask.shape[1]).any(1)
    return blocks.repeat_interleave(rows, 0)


def packed_conv(site: Site, bounds: Bounds = FREE) -> PackedConv2d:
    """The packed layer of a pruned 1x1 convolution, by the rows that share their columns.

    Args:
        site: the convolution; its non-zeros are kept.
        bounds: least and greatest output, such as RELU6 where that comes next.
    """
    if not isinstance(site.module, nn.Conv2d):
        raise UnsupportedError(f"{site.name} is no nn.Conv2d and cannot be packed as one.")
    mask = site.view() != 0
    rows = rows_together(mask)
    if rows == 1:
        return PackedConv2d.from_conv(site.module, Support.of(mask, unstructured()), "csr",
                                      bounds=bounds)
    support = Support.of(whole_blocks(mask, rows), block(rows, 1))
    return PackedConv2d.from_conv(site.module, support, "bsr", bounds=bounds)


def packed_edits(found: Sequence[Site], bounds: Bounds = FREE) -> list[Swap]:
    """Packed layers for all of the sites, or none of them.

    Where at most two thirds of all their weights are zero, dense convolutions are quicker, so
    nothing is packed.
    """
    weights = sum(site.view().numel() for site in found)
    zeros = weights - sum(int(site.view().count_nonzero()) for site in found)
    if zeros <= FEWEST * weights:
        return []
    return [Swap(site, packed_conv(site, bounds)) for site in found]


@dataclass(frozen=True)
class Rates:
    """What a machine does for a kernel, on one thread.

    Args:
        operations: multiply-accumulates a second of two floating-point operations each.
        bytes: read and written a second.
    """

    operations: float
    bytes: float


def seconds(support: Support, pixels: int, rows: int, rates: Rates) -> float:
    """Predicted time of a packed 1x1 convolution: the slower of arithmetic and bytes.

    Rows that share their columns load a pixel once for all of them, so that of a machine's
    multiply-accumulates a row by itself gets a half, two get two thirds and four get four fifths.

    Args:
        support: kept weights ``[out, in]``.
        pixels: of the image.
        rows: one, two or four that are computed together.
        rates: of the machine.
    """
    out, inputs = support.shape
    work = support.nnz * pixels / (rates.operations * rows / (rows + 1))
    moved = 4 * pixels * (inputs + out) + 8 * support.nnz
    return max(work, moved / rates.bytes)
