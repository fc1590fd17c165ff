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
def _fetch(above, below, upper, lower, wanted):
    """Index and values of 256 columns."""
    return (stream(upper, wanted), stream(lower, wanted),
            stream(above, wanted), stream(below, wanted),
            stream(above + 32, wanted), stream(below + 32, wanted),
            stream(above + 64, wanted), stream(below + 64, wanted),
            stream(above + 96, wanted), stream(below + 96, wanted))


@triton.jit
def _turn(c, d, now, first, second, part, WIDE: tl.constexpr, ARRANGED: tl.constexpr,
          KIND: tl.constexpr):
    """c, and d where WIDE, with 256 columns added."""
    odd, shift = (part & 1) != 0, (part & 1) * 4
    for step in tl.static_range(8):
        a, b = now[2 + step // 2 * 2], now[3 + step // 2 * 2]
        a0, a1 = a[step % 2 * 2], a[step % 2 * 2 + 1]
        b0, b1 = b[step % 2 * 2], b[step % 2 * 2 + 1]
        places = _metadata(
            now[0][step // 2 % 2 * 2], now[0][step // 2 % 2 * 2 + 1],
            now[1][step // 2 % 2 * 2], now[1][step // 2 % 2 * 2 + 1], shift,
            "0x6420" if step % 2 == 0 else "0x7531")
        here = step * 256 if ARRANGED else step // 2 * 64 + step % 2 * 8
        taken = _inputs(first + here, odd, ARRANGED)
        c = _product(c, a0, b0, a1, b1, taken, places, step // 4, KIND)
        if WIDE:
            taken = _inputs(second + here, odd, ARRANGED)
            d = _product(d, a0, b0, a1, b1, taken, places, step // 4, KIND)
    return c, d


@triton.jit(do_not_specialize=["batch"])
def _nm_kernel(
    x, values, index, bias, y, rows, cols, batch,
    WARPS: tl.constexpr, SPLIT: tl.constexpr, WIDE: tl.constexpr, ARRANGED: tl.constexpr,
    BIASED: tl.constexpr, KIND: tl.constexpr,
):
    thread = tl.arange(0, 32 * WARPS)
    # Of the columns' blocks a warp takes every `stride`th.
    share, lane = tl.program_id(1) * WARPS + thread // 32, thread % 32
    line, part = lane // 4, lane % 4
    top = tl.minimum(tl.program_id(0) * 16 + line, rows - 1).to(tl.int64)
    bottom = tl.minimum(tl.program_id(0) * 16 + line + 8, rows - 1).to(tl.int64)
    above = values + top * (cols // 2) + part * 8 + share * 128
    below = values + bottom * (cols // 2) + part * 8 + share * 128
    # Threads 0 and 1 of four give the first half's places, 2 and 3 the second half's.
    upper = index + top * (cols // 8) + (part // 2) * 16 + share * 32
    lower = index + bottom * (cols // 8) + (part // 2) * 16 + share * 32
    stride: tl.constexpr = WARPS * SPLIT
    groups: tl.constexpr = 2 if WIDE else 1
    first, second = inputs(x, part // 2 * 16, share, lane, cols, batch, 256, groups, ARRANGED)
    zero, always = tl.zeros([32 * WARPS], tl.float32), tl.full([32 * WARPS], 1, tl.int32)
    c, d = (zero, zero, zero, zero), (zero, zero, zero, zero)
    turns = cols // (256 * stride)
    now = _fetch(above, below, upper, lower, always)
    for turn in range(turns):
        above, below = above + 128 * stride, below + 128 * stride
        upper, lower = upper + 32 * stride, lower + 32 * stride
        ahead = _fetch(above, below, upper, lower, always & (turn + 1 < turns).to(tl.int32))
        c, d = _turn(c, d, now, first, second, part, WIDE, ARRANGED, KIND)
        first += (2048 * groups if ARRANGED else 256) * stride
        second += (2048 * groups if ARRANGED else 256) * stride
        now = ahead
    store(c, y, bias, rows, 0, batch, WARPS, SPLIT, BIASED)
    if WIDE:
        store(d, y, bias, rows, 8, batch, WARPS, SPLIT, BIASED)


def multiply(x: Tensor, values: Tensor, index: Tensor, bias: Tensor | None, rows: int,
             shares: tuple[int, int], arranged: bool) -> Tensor:
    """``y = x W^T + b`` for x ``[batch, cols]``, contiguous, at most 16 inputs.

    ``shares`` is the number of warps of a program, and of programs, that share the columns of 16
    rows; their product divides the blocks of 256 columns.
    """
    (batch, cols), (warps, split) = x.shape, shares
    y = x.new_empty((batch, rows))
    out = y if split == 1 else y.new_empty((split, batch, rows), dtype=torch.float32)
    biased = bias is not None and split == 1
    _nm_kernel[(triton.cdiv(rows, 16), split)](
        arrange(x, True) if arranged else x, values, index, bias if biased else y, out, rows,
        cols, batch, WARPS=warps, SPLIT=split, WIDE=batch > 8, ARRANGED=arranged, BIASED=biased,
        KIND="bf16" if x.dtype is torch.bfloat16 else "f16", num_warps=warps)
    if split > 1:
        finish(out, y, bias)
    return y
