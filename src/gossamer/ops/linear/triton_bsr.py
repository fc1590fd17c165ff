"""The GPU kernels of layout bsr: products with whole blocks, and the blocks of a product.

Blocks go to the tensor cores as they lie. A program of `spread` takes one line of blocks (a row of
them for ``y = x W^T``, a column for ``dx = dy W``) and a tile of inputs. What bounds it is the
second-level cache: each block that is 64 high has to fetch its own inputs, so that higher blocks
are quicker. A program of `gather` (``dW = dy^T x`` at the kept blocks) takes several blocks of one
line at a time, which share one side of the product.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
import triton
import triton.language as tl
from torch import Tensor
from triton.tools.tensor_descriptor import TensorDescriptor


class Lines(NamedTuple):
    """Blocks line by line.

    Args:
        starts: ``[lines + 1]``: where each line begins among the blocks of ``order``.
        order: ``[blocks]``: the stored blocks line by line; None: as they are stored.
        across: ``[blocks]``: where in its line each block stands, in that order.
        sequence: ``[lines]``: the lines in the order in which programs take them.
    """

    starts: Tensor
    order: Tensor | None
    across: Tensor
    sequence: Tensor


class Tiling(NamedTuple):
    """How much a program takes at a time: inputs (or blocks), depth of a step; warps, stages."""

    tile: int
    step: int
    warps: int
    stages: int


@triton.jit
def _spread_kernel(
    x, blocks, y, bias, starts, order, across, sequence, lines,
    TILE: tl.constexpr, STEP: tl.constexpr, DEPTH: tl.constexpr, OUT: tl.constexpr,
    TURNED: tl.constexpr, BIASED: tl.constexpr, PRECISION: tl.constexpr, STAGES: tl.constexpr,
):
    line = tl.load(sequence + tl.program_id(0) % lines).to(tl.int32)
    first = tl.program_id(0) // lines * TILE
    begin, end = tl.load(starts + line).to(tl.int32), tl.load(starts + line + 1).to(tl.int32)
    steps: tl.constexpr = DEPTH // STEP
    # The longer side goes first: the tensor cores take it 64 at a time, the other from 8 on.
    FLAT: tl.constexpr = OUT >= 64
    total = tl.zeros([OUT, TILE] if FLAT else [TILE, OUT], tl.float32)
    for step in tl.range(begin * steps, end * steps, num_stages=STAGES):
        at, part = step // steps, step % steps * STEP
        given = x.load([first, tl.load(across + at).to(tl.int32) * DEPTH + part])
        if TURNED:
            weight = blocks.load([tl.load(order + at).to(tl.int32) * DEPTH + part, 0])
        else:
            weight = blocks.load([at * OUT, part]).T
        if FLAT:
            total = tl.dot(weight.T, given.T, total, input_precision=PRECISION)
        else:
            total = tl.dot(given, weight, total, input_precision=PRECISION)
    result = total.T if FLAT else total
    if BIASED:
        result += tl.load(bias + line * OUT + tl.arange(0, OUT)).to(tl.float32)[None, :]
    y.store([first, line * OUT], result.to(y.dtype))


def spread(x: Tensor, values: Tensor, lines: Lines, bias: Tensor | None, tiling: Tiling,
           precision: str) -> Tensor:
    """The product of x with the blocks, line by line: ``[tokens, lines * side]``.

    x is ``[tokens, n]``, contiguous, on 16 bytes, at least one row; so is ``values``. The depth of
    the product is the blocks' width where ``lines.order`` is None, else their height.
    """
    (blocks, height, width), turned = values.shape, lines.order is not None
    depth, out = (height, width) if turned else (width, height)
    count, tile, step = lines.sequence.numel(), tiling.tile, tiling.step
    y = x.new_empty((x.shape[0], count * out))
    _spread_kernel[(triton.cdiv(x.shape[0], tile) * count,)](
        TensorDescriptor.from_tensor(x, [tile, step]),
        TensorDescriptor.from_tensor(values.view(blocks * height, width),
                                     [step, out] if turned else [out, step]),
        TensorDescriptor.from_tensor(y, [tile, out]), y if bias is None else bias, lines.starts,
        lines.order if turned else lines.starts, lines.across, lines.sequence, count,
        TILE=tile, STEP=step, DEPTH=depth, OUT=out, TURNED=turned, BIASED=bias is not None,
        PRECISION=precision, STAGES=tiling.stages, num_warps=tiling.warps)
    return y


@triton.jit
def _gather_kernel(
    shared, other, values, starts, order, across, sequence, tokens, length, columns, each,
    SHARED: tl.constexpr, OTHER: tl.constexpr, TILE: tl.constexpr, STEP: tl.constexpr,
    TURNED: tl.constexpr, PRECISION: tl.constexpr, STAGES: tl.constexpr,
):
    line = tl.load(sequence + tl.program_id(0)).to(tl.int32)
    begin, end = tl.load(starts + line).to(tl.int32), tl.load(starts + line + 1).to(tl.int32)
    low = tl.program_id(2) * length
    high = tl.minimum(low + length, tokens)
    place, deep, down = tl.arange(0, TILE * OTHER), tl.arange(0, STEP), tl.arange(0, SHARED)
    FLAT: tl.constexpr = SHARED >= 64
    values += tl.program_id(2).to(tl.int64) * each
    for head in range(begin + tl.program_id(1) * TILE, end, tl.num_programs(1) * TILE):
        # A block too many repeats the last: what comes of it is not stored.
        mine = tl.minimum(head + place // OTHER, end - 1)
        column = tl.load(across + mine).to(tl.int64) * OTHER + place % OTHER
        column = tl.max_contiguous(tl.multiple_of(column, 16), 16)
        pointers = other + (low + deep).to(tl.int64)[:, None] * columns + column[None, :]
        total = tl.zeros([SHARED, TILE * OTHER] if FLAT else [TILE * OTHER, SHARED], tl.float32)
        for token in tl.range(low, high, STEP, num_stages=STAGES):
            a = shared.load([token, line * SHARED])
            b = tl.load(pointers, mask=(token + deep < high)[:, None], other=0.0)
            if FLAT:
                total = tl.dot(a.T, b, total, input_precision=PRECISION)
            else:
                total = tl.dot(b.T, a, total, input_precision=PRECISION)
            pointers += STEP * columns.to(tl.int64)
        block = (tl.load(order + mine) if TURNED else mine).to(tl.int64) * (SHARED * OTHER)
        target = block + place % OTHER * (SHARED if TURNED else 1)
        stride: tl.constexpr = 1 if TURNED else OTHER
        tl.store(values + target[None, :] + down[:, None] * stride,
                 (total if FLAT else total.T).to(values.dtype.element_ty),
                 mask=(head + place // OTHER < end)[None, :])


def gather(shared: Tensor, other: Tensor, values: Tensor, lines: Lines, tiling: Tiling,
           shares: tuple[int, int], precision: str) -> Tensor:
    """``dy^T x`` at the places of the blocks, shaped and typed as ``values``.

    ``shared`` is the side that a line's blocks have in common, ``[tokens, n]``: dy where
    ``lines.order`` is None, else x; ``other`` the other one. Both are contiguous, on 16 bytes, with
    at least one row. ``tiling.tile`` is in blocks. ``shares`` is the number of programs that share
    one line's blocks, and that share the tokens.
    """
    (_, height, width), turned = values.shape, lines.order is not None
    side, across = (width, height) if turned else (height, width)
    programs, split = shares
    length = triton.cdiv(triton.cdiv(shared.shape[0], split), tiling.step) * tiling.step
    out = torch.empty_like(values) if split == 1 else values.new_empty(
        (split, *values.shape), dtype=torch.float32)
    _gather_kernel[(lines.sequence.numel(), programs, split)](
        TensorDescriptor.from_tensor(shared, [tiling.step, side]), other, out, lines.starts,
        lines.order if turned else lines.starts, lines.across, lines.sequence, shared.shape[0],
        length, other.shape[1], values.numel(), SHARED=side, OTHER=across, TILE=tiling.tile,
        STEP=tiling.step, TURNED=turned, PRECISION=precision, STAGES=tiling.stages,
        num_warps=tiling.warps)
    return out if split == 1 else out.sum(0).to(values.dtype)
