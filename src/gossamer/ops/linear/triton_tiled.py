"""The GPU kernel of layout tiled: a warp expands 16 x 512 weights in registers for tensor cores.

Each thread has its own column of shared memory, where its values lie in the order in which it
meets its mask's bits, so that fetching is free of bank conflicts whatever the mask. There is a row
for every value, with that value and the next: one load gives the next two wherever the thread
stands. Two bits of the mask choose, by a byte permutation, what of them becomes a pair of weights;
dot products of bytes count how far to step. Tensors of one entry a thread stand for registers.
"""

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor

from gossamer.ops.linear.triton_warp import arrange, finish, inputs, load, store, stream


@triton.jit
def _shared(offset, SIZE: tl.constexpr):
    """Address of a byte in the program's own shared memory."""
    return tl.inline_asm_elementwise(
        "{ .shared .align 128 .b8 streams[" + SIZE + "]; .reg .b32 t; mov.b32 t, streams; "
        "add.s32 $0, $1, t; }", "=r,r", [offset], dtype=tl.int32, is_pure=False, pack=1)


@triton.jit
def _copy(source, target, words, lane, WORDS: tl.constexpr):
    """Copy one tile's streams of so many words a thread to every second row, and wait for them."""
    for step in tl.static_range((WORDS + 3) // 4):
        tl.inline_asm_elementwise(
            "{ .reg .pred p; setp.lt.s32 p, $1, $2; "
            "@p cp.async.cg.shared.global [$3], [$4], 16; mov.b32 $0, 0; }",
            "=r,r,r,r,l", [step * 4 + lane // 8, words, target + step * 1024, source + step * 256],
            dtype=tl.int32, is_pure=False, pack=1)
    tl.inline_asm_elementwise(
        "{ cp.async.wait_all; bar.warp.sync 0xffffffff; mov.b32 $0, 0; }", "=r,r", [lane],
        dtype=tl.int32, is_pure=False, pack=1)


@triton.jit
def _peek(place):
    """A register from shared memory."""
    return tl.inline_asm_elementwise("ld.shared.b32 $0, [$1];", "=r,r", [place], dtype=tl.int32,
                                     is_pure=False, pack=1)


@triton.jit
def _between(mine, WORDS: tl.constexpr):
    """Fill every other row with the pairs that begin at odd values."""
    low = _peek(mine)
    for row in tl.static_range(WORDS):
        low = tl.inline_asm_elementwise(
            "{ .reg .b32 t; ld.shared.b32 $0, [$2+128]; prmt.b32 t, $1, $0, 0x5432; "
            "st.shared.b32 [$2], t; }", "=&r,r,r", [low, mine + (2 * row + 1) * 128],
            dtype=tl.int32, is_pure=False, pack=1)


@triton.jit
def _announce(source, words, lane, WORDS: tl.constexpr):
    """Have the second-level cache fetch a tile's streams."""
    for step in tl.static_range((WORDS + 31) // 32):
        tl.inline_asm_elementwise(
            "{ .reg .pred p; setp.lt.s32 p, $1, $2; @p prefetch.global.L2 [$3]; mov.b32 $0, 0; }",
            "=r,r,r,l", [step * 32 + lane, words, source + step * 2048],
            dtype=tl.int32, is_pure=False, pack=1)


@triton.jit
def _together(lane):
    """Wait for the warp's other threads."""
    tl.inline_asm_elementwise("{ bar.warp.sync 0xffffffff; mov.b32 $0, 0; }", "=r,r", [lane],
                              dtype=tl.int32, is_pure=False, pack=1)


@triton.jit
def _pair(at, choice):
    """Two weights: the pair of values at this place, spread by the choice."""
    return tl.inline_asm_elementwise(
        "{ .reg .b32 t; ld.shared.b32 t, [$1]; prmt.b32 $0, t, 0, $2; }", "=r,r,r", [at, choice],
        dtype=tl.int32, is_pure=False, pack=1)


@triton.jit
def _lookup(digits):
    """What to do with a pair of values for each two bits of the mask: neither, first, second, both.
    """
    return tl.inline_asm_elementwise(
        "prmt.b32 $0, 0x10441044, 0x32104444, $1;", "=r,r", [digits], dtype=tl.int32,
        is_pure=True, pack=1)


@triton.jit
def _advance(counts, at, UPTO: tl.constexpr):
    """at + 128 times the sum of the counts in the bytes that UPTO names."""
    return tl.inline_asm_elementwise(
        "dp4a.u32.u32 $0, $1, " + UPTO + ", $2;", "=r,r,r", [counts, at], dtype=tl.int32,
        is_pure=True, pack=1)


@triton.jit
def _expand(mask, at):
    """Four pairs of weights from the low two bits of each byte of the mask; the next place."""
    codes = mask & 0x03030303
    digits = codes * 0x11 + 0x40404040
    low, high = _lookup(digits), _lookup(digits >> 16)
    counts = codes - ((codes >> 1) & 0x01010101)
    w0 = _pair(at, low)
    w1 = _pair(_advance(counts, at, "0x00000080"), low >> 16)
    w2 = _pair(_advance(counts, at, "0x00008080"), high)
    w3 = _pair(_advance(counts, at, "0x00808080"), high >> 16)
    return w0, w1, w2, w3, _advance(counts, at, "0x80808080")


@triton.jit
def _product(c, a0, a1, a2, a3, b0, b1, KIND: tl.constexpr):
    """c + a b, a 16 x 16, b 16 x 8."""
    return tl.inline_asm_elementwise(
        "mma.sync.aligned.m16n8k16.row.col.f32." + KIND + "." + KIND
        + ".f32 {$0, $1, $2, $3}, {$4, $5, $6, $7}, {$8, $9}, {$10, $11, $12, $13};",
        "=f,=f,=f,=f,r,r,r,r,r,r,f,f,f,f", [a0, a1, a2, a3, b0, b1, c[0], c[1], c[2], c[3]],
        dtype=(tl.float32, tl.float32, tl.float32, tl.float32), is_pure=True, pack=1)


@triton.jit
def _inputs(x, ARRANGED: tl.constexpr):
    """x at the 32 columns of one mask word."""
    if ARRANGED:
        return load(x), load(x + 256), load(x + 512), load(x + 768)
    return load(x), load(x + 32), load(x + 64), load(x + 96)


@triton.jit
def _word(c, d, masks, at, first, second, word: tl.constexpr, WIDE: tl.constexpr,
          ARRANGED: tl.constexpr, KIND: tl.constexpr):
    """c, and d where WIDE, with 128 columns added; the next place."""
    groups: tl.constexpr = 2 if WIDE else 1
    here = (word // 2 * groups * 2048 + word % 2 * 1024) if ARRANGED else word * 128
    f = _inputs(first + here, ARRANGED)
    if WIDE:
        g = _inputs(second + here, ARRANGED)
    for j in tl.static_range(4):
        p0, p1, p2, p3, at = _expand(masks[0][word] >> (2 * j), at)
        q0, q1, q2, q3, at = _expand(masks[1][word] >> (2 * j), at)
        c = _product(c, p0, q0, p1, q1, f[0][j], f[1][j], KIND)
        c = _product(c, p2, q2, p3, q3, f[2][j], f[3][j], KIND)
        if WIDE:
            d = _product(d, p0, q0, p1, q1, g[0][j], g[1][j], KIND)
            d = _product(d, p2, q2, p3, q3, g[2][j], g[3][j], KIND)
    return c, d, at


@triton.jit(do_not_specialize=["batch"])
def _tiled_kernel(
    x, values, bits, starts, bias, y, rows, cols, batch,
    WARPS: tl.constexpr, SPLIT: tl.constexpr, WORDS: tl.constexpr, SIZE: tl.constexpr,
    WIDE: tl.constexpr, ARRANGED: tl.constexpr, BIASED: tl.constexpr, KIND: tl.constexpr,
):
    thread = tl.arange(0, 32 * WARPS)
    warp, lane = thread // 32, thread % 32
    # Of the tiles of 16 rows a warp takes every `stride`th.
    share = tl.program_id(1) * WARPS + warp
    stride: tl.constexpr = WARPS * SPLIT
    turns = cols // 512 // stride
    tile = tl.program_id(0).to(tl.int64) * (cols // 512) + share
    mine = _shared(warp * ((2 * WORDS + 1) * 128), SIZE)
    groups: tl.constexpr = 2 if WIDE else 1
    first, second = inputs(x, lane % 4 * 8, share, lane, cols, batch, 512, groups, ARRANGED)
    zero, always = tl.zeros([32 * WARPS], tl.float32), tl.full([32 * WARPS], 1, tl.int32)
    c, d = (zero, zero, zero, zero), (zero, zero, zero, zero)
    start, end = tl.load(starts + tile), tl.load(starts + tile + 1)
    mask = bits + tile * 1024 + lane * 16
    masks = stream(mask, always), stream(mask + 512, always)
    for turn in range(turns):
        _copy(values + start * 64 + lane * 8,
              mine + lane // 8 * 256 + lane % 8 * 16, (end - start).to(tl.int32), lane, WORDS)
        _between(mine + lane * 4, WORDS)
        more = turn + 1 < turns
        tile, mask = tile + stride, mask + 1024 * stride
        start, end = tl.load(starts + tile, mask=more), tl.load(starts + tile + 1, mask=more)
        wanted = always & more.to(tl.int32)
        ahead = stream(mask, wanted), stream(mask + 512, wanted)
        at = mine + lane * 4
        c, d, at = _word(c, d, masks, at, first, second, 0, WIDE, ARRANGED, KIND)
        length = tl.where(more, (end - start).to(tl.int32), 0)
        _announce(values + start * 64 + lane * 64, length, lane, WORDS)
        for word in tl.static_range(1, 4):
            c, d, at = _word(c, d, masks, at, first, second, word, WIDE, ARRANGED, KIND)
        first += (4096 * groups if ARRANGED else 512) * stride
        second += (4096 * groups if ARRANGED else 512) * stride
        masks = ahead
        _together(lane)
    top = tl.program_id(0) * 16
    store(c, y, bias, rows, top, 0, batch, WARPS, SPLIT, BIASED)
    if WIDE:
        store(d, y, bias, rows, top, 8, batch, WARPS, SPLIT, BIASED)


def multiply(x: Tensor, parts: tuple[Tensor, ...], bias: Tensor | None, rows: int,
             words: int, shares: tuple[int, int], arranged: bool) -> Tensor:
    """``y = x W^T + b`` for x ``[batch, cols]``, contiguous, at most 16 inputs.

    ``parts`` are values, bits and starts; ``words`` bounds the words of a thread's stream in one
    tile; ``shares`` is the number of warps of a program, and of programs, that share the columns
    of 16 rows; their product divides the tiles of 512 columns.
    """
    (batch, cols), (warps, split) = x.shape, shares
    y = x.new_empty((batch, rows))
    out = y if split == 1 else y.new_empty((split, batch, rows), dtype=torch.float32)
    biased = bias is not None and split == 1
    _tiled_kernel[(triton.cdiv(rows, 16), split)](
        arrange(x, False) if arranged else x, *parts, bias if biased else y, out, rows, cols,
        batch, WARPS=warps, SPLIT=split, WORDS=words, SIZE=str(warps * (2 * words + 1) * 128),
        WIDE=batch > 8, ARRANGED=arranged, BIASED=biased,
        KIND="bf16" if x.dtype is torch.bfloat16 else "f16", num_warps=warps)
    if split > 1:
        finish(out, y, bias)
    return y
