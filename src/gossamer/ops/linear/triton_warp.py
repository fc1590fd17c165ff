"""Parts of the GPU kernels of linear that see a tensor of one entry a thread as a register."""

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor

# Columns that follow one another in the order of `arrange`.
BLOCK = 256
# Inputs of one tensor-core product.
INPUTS = 8


@triton.jit
def load(place):
    """Four registers from 16 bytes."""
    return tl.inline_asm_elementwise(
        "ld.global.nc.v4.b32 {$0, $1, $2, $3}, [$4];", "=r,=r,=r,=r,l", [place],
        dtype=(tl.int32, tl.int32, tl.int32, tl.int32), is_pure=True, pack=1)


@triton.jit
def stream(place, wanted):
    """Four registers from 16 bytes that are read once; anything where not wanted."""
    return tl.inline_asm_elementwise(
        "{ .reg .pred p; setp.ne.b32 p, $5, 0; "
        "@p ld.global.nc.L1::no_allocate.v4.b32 {$0, $1, $2, $3}, [$4]; }",
        "=&r,=&r,=&r,=&r,l,r", [place, wanted], dtype=(tl.int32, tl.int32, tl.int32, tl.int32),
        is_pure=True, pack=1)


@triton.jit
def choose(low, high, SELECTOR: tl.constexpr):
    """The bytes of two registers that the four digits of SELECTOR name."""
    return tl.inline_asm_elementwise(
        "prmt.b32 $0, $1, $2, " + SELECTOR + ";", "=r,r,r", [low, high], dtype=tl.int32,
        is_pure=True, pack=1)


@triton.jit
def _add(a0, a1, a2, a3, b0, b1, b2, b3):
    return a0 + b0, a1 + b1, a2 + b2, a3 + b3


@triton.jit
def inputs(x, offset, share, lane, cols, batch, COLUMNS: tl.constexpr, GROUPS: tl.constexpr,
           ARRANGED: tl.constexpr):
    """Where a thread finds the first eight inputs of its warp's columns, and the next eight."""
    if ARRANGED:
        first = x + share * (GROUPS * COLUMNS * 8) + lane * 8
        second = first + 2048
    else:
        # An input too many repeats the last: what comes of it is not stored.
        given, line = x + offset + share * COLUMNS, lane // 4
        first = given + tl.minimum(line, batch - 1).to(tl.int64) * cols
        second = given + tl.minimum(line + 8, batch - 1).to(tl.int64) * cols
    return first, second


@triton.jit
def store(parts, y, bias, rows, top, first, batch, WARPS: tl.constexpr, SPLIT: tl.constexpr,
          BIASED: tl.constexpr):
    """Add up the warps' shares of a 16 x 8 product, and store it as ``y[split, column, row]``.

    Its rows begin at ``top``, its columns at ``first``.
    """
    c0, c1, c2, c3 = parts
    if WARPS > 1:
        c0, c1, c2, c3 = tl.reduce(
            (tl.reshape(c0, (WARPS, 32)), tl.reshape(c1, (WARPS, 32)),
             tl.reshape(c2, (WARPS, 32)), tl.reshape(c3, (WARPS, 32))), 0, _add)
    lane = tl.arange(0, 32)
    row, column = top + lane // 4, first + lane % 4 * 2
    if BIASED:
        upper = tl.load(bias + row, mask=row < rows, other=0.0).to(tl.float32)
        lower = tl.load(bias + row + 8, mask=row + 8 < rows, other=0.0).to(tl.float32)
        c0, c1, c2, c3 = c0 + upper, c1 + upper, c2 + lower, c3 + lower
    if SPLIT > 1:
        y += tl.program_id(1).to(tl.int64) * batch * rows
    place = y + column.to(tl.int64) * rows + row
    kind = y.dtype.element_ty
    tl.store(place, c0.to(kind), mask=(row < rows) & (column < batch))
    tl.store(place + rows, c1.to(kind), mask=(row < rows) & (column + 1 < batch))
    tl.store(place + 8, c2.to(kind), mask=(row + 8 < rows) & (column < batch))
    tl.store(place + rows + 8, c3.to(kind), mask=(row + 8 < rows) & (column + 1 < batch))


@triton.jit
def awaited(lane):
    """Zero, once the kernel before this one is through, where this one was started early."""
    return tl.inline_asm_elementwise("griddepcontrol.wait; mov.b32 $0, 0;", "=r,r", [lane],
                                     dtype=tl.int32, is_pure=False, pack=1)


@triton.jit
def _arrange_kernel(x, out, words, batch, NM: tl.constexpr, GROUPS: tl.constexpr,
                    TILE: tl.constexpr, EARLY: tl.constexpr):
    if EARLY:  # the next kernel may start to fetch what does not come from here
        tl.inline_asm_elementwise("griddepcontrol.launch_dependents; mov.b32 $0, 0;", "=r,r",
                                  [tl.arange(0, 128)], dtype=tl.int32, is_pure=False, pack=1)
    place = tl.program_id(0) * TILE + tl.arange(0, TILE)
    # out: [block of 256 columns, group of inputs, step, thread, register]
    register, thread, step = place % 4, place // 4 % 32, place // 128 % 8
    group, block = place // 1024 % GROUPS, place // 1024 // GROUPS
    line, part = thread // 4, thread % 4
    if NM:
        word = (step // 2 * 32 + part // 2 * 8 + step % 2 * 4 + part % 2
                + register % 2 * 16 + register // 2 * 2)
    else:
        word = step * 16 + part * 4 + register
    row = group * 8 + line
    here = block * 128 + word
    value = tl.load(x + row.to(tl.int64) * words + here, mask=(row < batch) & (here < words),
                    other=0)
    tl.store(out + place, value, mask=here < words)


def arrange(x: Tensor, nm: bool, early: bool = False) -> Tensor:
    """x ``[batch, cols]`` in the order in which the threads of a warp read it, 16 bytes at a time.

    Zeros fill the batch up to a multiple of eight. Where ``early``, a next kernel that says so may
    start before this one is through; from compute capability 9.0 on.
    """
    batch, cols = x.shape
    groups = -(-batch // INPUTS)
    out = x.new_empty((groups * INPUTS, cols))
    count, tile = groups * INPUTS * cols // 2, 512
    _arrange_kernel[(triton.cdiv(count, tile),)](
        x.view(torch.int32), out.view(torch.int32), cols // 2, batch, NM=nm, GROUPS=groups,
        TILE=tile, EARLY=early, num_warps=4)
    return out


@triton.jit
def _finish_kernel(parts, y, bias, count, rows, SPLIT: tl.constexpr, BIASED: tl.constexpr,
                   TILE: tl.constexpr):
    place = tl.program_id(0) * TILE + tl.arange(0, TILE)
    inside = place < count
    total = tl.load(parts + place, mask=inside, other=0.0)
    for part in tl.static_range(1, SPLIT):
        total += tl.load(parts + part * count + place, mask=inside, other=0.0)
    if BIASED:
        total += tl.load(bias + place % rows, mask=inside, other=0.0).to(tl.float32)
    tl.store(y + place, total.to(y.dtype.element_ty), mask=inside)


def finish(parts: Tensor, y: Tensor, bias: Tensor | None) -> None:
    """y ``[batch, rows]`` = the sum of the float32 parts ``[split, batch, rows]``, and the bias."""
    tile = 512
    _finish_kernel[(triton.cdiv(y.numel(), tile),)](
        parts, y, y if bias is None else bias, y.numel(), y.shape[1], SPLIT=parts.shape[0],
        BIASED=bias is not None, TILE=tile, num_warps=4)
