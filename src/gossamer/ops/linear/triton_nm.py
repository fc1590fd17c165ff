"""The GPU kernel of layout nm at 2:4: sparse tensor cores read the packed parts as they lie.

The index of 2:4 is what ``mma.sp`` takes as metadata, and a group's two values are one of its
registers, so that nothing is expanded. One warp serves 16 rows; the warps of a program share the
columns among them and add up at the end. Tensors of one entry a thread stand for registers.

Which four columns make up a slot of the product is free as long as weights and x agree: a thread
takes four groups that follow one another (16 bytes), two for each of two products.
"""

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor

from gossamer.ops.linear.triton_warp import (
    arrange,
    awaited,
    choose,
    finish,
    inputs,
    load,
    store,
    stream,
)


@triton.jit
def _places(low, high, shift, SELECTOR: tl.constexpr):
    """In its bytes 0 and 2, the places of every second of eight groups, from the index of 16."""
    some = (choose(low, high, SELECTOR) >> shift) & 0x0F0F0F0F
    return some | (some >> 4)


@triton.jit
def _metadata(upper0, upper1, lower0, lower1, shift, SELECTOR: tl.constexpr):
    """What a thread gives to one product: four groups of the upper row, then of the lower."""
    return choose(_places(upper0, upper1, shift, SELECTOR),
                  _places(lower0, lower1, shift, SELECTOR), "0x6420")


@triton.jit
def _product(c, a0, a1, a2, a3, b, places, PAIR: tl.constexpr, KIND: tl.constexpr):
    """c + a b, a 16 x 32 with two of four stored, b 32 x 8; threads of PAIR give the places."""
    return tl.inline_asm_elementwise(
        "mma.sp::ordered_metadata.sync.aligned.m16n8k32.row.col.f32." + KIND + "." + KIND
        + ".f32 {$0, $1, $2, $3}, {$4, $5, $6, $7}, {$8, $9, $10, $11}, {$12, $13, $14, $15}, $16, "
        + ("0x0;" if PAIR == 0 else "0x1;"),
        "=f,=f,=f,=f,r,r,r,r,r,r,r,r,f,f,f,f,r",
        [a0, a1, a2, a3, b[0], b[1], b[2], b[3], c[0], c[1], c[2], c[3], places],
        dtype=(tl.float32, tl.float32, tl.float32, tl.float32), is_pure=True, pack=1)


@triton.jit
def _inputs(x, odd, ARRANGED: tl.constexpr):
    """A product's four registers of x: loaded so, or chosen from two times 16 bytes."""
    if ARRANGED:
        return load(x)
    p, q = load(x), load(x + 32)
    return (tl.where(odd, p[1], p[0]), tl.where(odd, q[1], q[0]),
            tl.where(odd, p[3], p[2]), tl.where(odd, q[3], q[2]))


@triton.jit
def _fetch(at, wanted):
    """Index and values of 256 columns."""
    above, below, upper, lower = at
    return (stream(upper, wanted), stream(lower, wanted),
            stream(above, wanted), stream(below, wanted),
            stream(above + 32, wanted), stream(below + 32, wanted),
            stream(above + 64, wanted), stream(below + 64, wanted),
            stream(above + 96, wanted), stream(below + 96, wanted))


@triton.jit
def _places_of(values, index, first, share, lane, rows, cols):
    """Where a thread finds values and index of its two rows of 16."""
    line, part = lane // 4, lane % 4
    top = tl.minimum(first + line, rows - 1).to(tl.int64)
    bottom = tl.minimum(first + line + 8, rows - 1).to(tl.int64)
    # Threads 0 and 1 of four give the first half's places, 2 and 3 the second half's.
    return (values + top * (cols // 2) + part * 8 + share * 128,
            values + bottom * (cols // 2) + part * 8 + share * 128,
            index + top * (cols // 8) + (part // 2) * 16 + share * 32,
            index + bottom * (cols // 8) + (part // 2) * 16 + share * 32)


@triton.jit
def _move(at, STRIDE: tl.constexpr):
    """The same places in a warp's next columns."""
    return (at[0] + 128 * STRIDE, at[1] + 128 * STRIDE, at[2] + 32 * STRIDE, at[3] + 32 * STRIDE)


@triton.jit
def _weights(now, shift, step: tl.constexpr):
    """What a thread gives to one product: four registers of values, and their places."""
    a, b = now[2 + step // 2 * 2], now[3 + step // 2 * 2]
    places = _metadata(
        now[0][step // 2 % 2 * 2], now[0][step // 2 % 2 * 2 + 1],
        now[1][step // 2 % 2 * 2], now[1][step // 2 % 2 * 2 + 1], shift,
        "0x6420" if step % 2 == 0 else "0x7531")
    return a[step % 2 * 2], b[step % 2 * 2], a[step % 2 * 2 + 1], b[step % 2 * 2 + 1], places


@triton.jit
def _turn(c, d, e, f, now, then, first, second, part, WIDE: tl.constexpr, TALL: tl.constexpr,
          ARRANGED: tl.constexpr, KIND: tl.constexpr):
    """c with 256 columns added; d, the next inputs, where WIDE; e and f, the next rows, where TALL.
    """
    odd, shift = (part & 1) != 0, (part & 1) * 4
    for step in tl.static_range(8):
        a0, a1, a2, a3, places = _weights(now, shift, step)
        here = step * 256 if ARRANGED else step // 2 * 64 + step % 2 * 8
        taken = _inputs(first + here, odd, ARRANGED)
        c = _product(c, a0, a1, a2, a3, taken, places, step // 4, KIND)
        if WIDE:
            more = _inputs(second + here, odd, ARRANGED)
            d = _product(d, a0, a1, a2, a3, more, places, step // 4, KIND)
        if TALL:
            a0, a1, a2, a3, places = _weights(then, shift, step)
            e = _product(e, a0, a1, a2, a3, taken, places, step // 4, KIND)
            if WIDE:
                f = _product(f, a0, a1, a2, a3, more, places, step // 4, KIND)
    return c, d, e, f


@triton.jit(do_not_specialize=["batch"])
def _nm_kernel(
    x, values, index, bias, y, rows, cols, batch,
    WARPS: tl.constexpr, SPLIT: tl.constexpr, WIDE: tl.constexpr, TALL: tl.constexpr,
    ARRANGED: tl.constexpr, EARLY: tl.constexpr, BIASED: tl.constexpr, KIND: tl.constexpr,
):
    thread = tl.arange(0, 32 * WARPS)
    # Of the columns' blocks a warp takes every `stride`th.
    share, lane = tl.program_id(1) * WARPS + thread // 32, thread % 32
    stride: tl.constexpr = WARPS * SPLIT
    groups: tl.constexpr = 2 if WIDE else 1
    top = tl.program_id(0) * (32 if TALL else 16)
    at = _places_of(values, index, top, share, lane, rows, cols)
    below = _places_of(values, index, top + 16, share, lane, rows, cols) if TALL else at
    part = lane % 4
    first, second = inputs(x, part // 2 * 16, share, lane, cols, batch, 256, groups, ARRANGED)
    zero, always = tl.zeros([32 * WARPS], tl.float32), tl.full([32 * WARPS], 1, tl.int32)
    none = (zero, zero, zero, zero)
    c, d, e, f = none, none, none, none
    turns = cols // (256 * stride)
    now = _fetch(at, always)
    then = _fetch(below, always) if TALL else now
    if EARLY:
        ready = awaited(lane)
        first, second = first + ready, second + ready
    for turn in range(turns):
        wanted = always & (turn + 1 < turns).to(tl.int32)
        at = _move(at, stride)
        ahead = _fetch(at, wanted)
        below = _move(below, stride) if TALL else at
        beyond = _fetch(below, wanted) if TALL else ahead
        c, d, e, f = _turn(c, d, e, f, now, then, first, second, part, WIDE, TALL, ARRANGED, KIND)
        first += (2048 * groups if ARRANGED else 256) * stride
        second += (2048 * groups if ARRANGED else 256) * stride
        now, then = ahead, beyond
    store(c, y, bias, rows, top, 0, batch, WARPS, SPLIT, BIASED)
    if WIDE:
        store(d, y, bias, rows, top, 8, batch, WARPS, SPLIT, BIASED)
    if TALL:
        store(e, y, bias, rows, top + 16, 0, batch, WARPS, SPLIT, BIASED)
    if TALL and WIDE:
        store(f, y, bias, rows, top + 16, 8, batch, WARPS, SPLIT, BIASED)


def multiply(x: Tensor, values: Tensor, index: Tensor, bias: Tensor | None, rows: int,
             shares: tuple[int, int], arranged: bool, tall: bool = False,
             early: bool = False) -> Tensor:
    """``y = x W^T + b`` for x ``[batch, cols]``, contiguous, at most 16 inputs.

    ``shares`` is the number of warps of a program, and of programs, that share the columns of 16
    rows, of 32 where ``tall``; their product divides the blocks of 256 columns. ``early`` is that
    of `arrange`.
    """
    (batch, cols), (warps, split) = x.shape, shares
    y = x.new_empty((batch, rows))
    out = y if split == 1 else y.new_empty((split, batch, rows), dtype=torch.float32)
    biased = bias is not None and split == 1
    _nm_kernel[(triton.cdiv(rows, 32 if tall else 16), split)](
        arrange(x, True, early) if arranged else x, values, index, bias if biased else y, out, rows,
        cols, batch, WARPS=warps, SPLIT=split, WIDE=batch > 8, TALL=tall, ARRANGED=arranged,
        EARLY=early and arranged, BIASED=biased,
        KIND="bf16" if x.dtype is torch.bfloat16 else "f16", num_warps=warps,
        **({"launch_pdl": True} if early and arranged else {}))
    if split > 1:
        finish(out, y, bias)
    return y


@triton.jit
def _expand_kernel(values, index, out, cols, width, TILE: tl.constexpr):
    row = tl.program_id(1).to(tl.int64)
    column = tl.program_id(0) * TILE + tl.arange(0, TILE)
    inside, group, place = column < cols, column // 4, column % 4
    byte = tl.load(index + row * width + group // 2, mask=inside, other=0).to(tl.int32)
    both = byte >> (group % 2 * 4)
    pair = values + row * (cols // 2) + group * 2
    first = tl.load(pair, mask=inside & ((both & 3) == place), other=0.0)
    second = tl.load(pair + 1, mask=inside & ((both >> 2 & 3) == place), other=0.0)
    tl.store(out + row * cols + column, tl.where((both & 3) == place, first, second), mask=inside)


def expand(values: Tensor, index: Tensor, cols: int) -> Tensor:
    """The dense matrix ``[rows, cols]`` of a 2:4 matrix; rows fewer than 65536."""
    rows, tile = values.shape[0], 1024
    out = values.new_empty((rows, cols))
    _expand_kernel[(triton.cdiv(cols, tile), rows)](values, index, out, cols, index.shape[1],
                                                   TILE=tile, num_warps=4)
    return out
