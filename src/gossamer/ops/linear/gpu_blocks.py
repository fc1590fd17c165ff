"""The GPU kernels of layout bsr: what they cover, how the work is cut, and the gradients."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor

from gossamer.layout.bsr import Plan, plan_of
from gossamer.ops.linear import gpu
from gossamer.ops.linear.form import Form, Parts

if TYPE_CHECKING:
    from gossamer.ops.linear.triton_bsr import Lines, Tiling

LAYOUTS = ("bsr",)

_SIDES = (16, 32, 64, 128)
_FLOATS = (torch.bfloat16, torch.float16, torch.float32)

# Programs that keep the device busy: two for each of some 132 multiprocessors.
_ENOUGH = 264

# Blocks a line from which on wide tiles of inputs outweigh that only one fits a multiprocessor.
_LONG = 12


def refusal(x: Tensor, parts: Parts, form: Form) -> str | None:
    """Why the GPU kernels of blocks do not cover this input, None where they do; by metadata."""
    values = parts[0]
    refused = gpu.device_refusal(x, values)
    if refused is not None:
        return refused
    _, height, width = values.shape
    if height not in _SIDES or width not in _SIDES:
        return f"the GPU kernels take blocks of sides 16, 32, 64 or 128, not {height}x{width}"
    if x.dtype not in _FLOATS or x.dtype is not values.dtype:
        return (f"the GPU kernels of blocks take bfloat16, float16 or float32, "
                f"not {x.dtype} by {values.dtype}")
    if x.numel() == 0 or values.numel() == 0:
        return "there is nothing to multiply"
    if not all(part.is_contiguous() for part in parts) or values.data_ptr() % 16:
        return "a part is not contiguous, or does not begin at a multiple of 16 bytes"
    return None


def account(x: Tensor, form: Form) -> str:
    """Which kernel runs, and why."""
    return f"GPU kernel for {form.layout}, tensor cores on whole blocks: rows share their columns"


def product(x: Tensor, parts: Parts, bias: Tensor | None, form: Form) -> Tensor:
    """``y = x W^T + b`` for x ``[..., cols]``."""
    y = _spread(x, parts, None if bias is None else bias.contiguous(), form, False)
    return y.view(*x.shape[:-1], form.rows)


def grad_x(grad: Tensor, parts: Parts, form: Form) -> Tensor:
    """``dL/dx = grad W`` for grad ``[..., rows]``."""
    return _spread(grad, parts, None, form, True).view(*grad.shape[:-1], form.cols)


def grad_values(grad: Tensor, x: Tensor, parts: Parts, form: Form) -> Tensor:
    """``dL/dvalues``: the blocks of ``grad^T x`` at the kept places, shaped as the values."""
    from gossamer.ops.linear import triton_bsr

    values, plan = parts[0], _plan(parts, form)
    down, across = plan.longest_rows.numel(), plan.longest_columns.numel()
    turned = across < down  # the longer lines waste least on what is left over of a tile
    shared, other = (_flat(x), _flat(grad)) if turned else (_flat(grad), _flat(x))
    tiling = gather_tiling(values, turned)
    shares = gather_shares(values.shape[0], min(down, across), shared.shape[0], tiling)
    with torch.cuda.device(values.device):
        return triton_bsr.gather(shared, other, values, _lines(parts, plan, turned), tiling,
                                 shares, _precision(values))


def _spread(x: Tensor, parts: Parts, bias: Tensor | None, form: Form, turned: bool) -> Tensor:
    from gossamer.ops.linear import triton_bsr

    values, flat = parts[0], _flat(x)
    lines = _lines(parts, _plan(parts, form), turned)
    tiling = spread_tiling(values, turned, lines.sequence.numel(), flat.shape[0])
    with torch.cuda.device(values.device):
        return triton_bsr.spread(flat, values, lines, bias, tiling, _precision(values))


def _plan(parts: Parts, form: Form) -> Plan:
    return plan_of(parts[3], (form.rows, form.cols), parts[0])


def _lines(parts: Parts, plan: Plan, turned: bool) -> Lines:
    from gossamer.ops.linear.triton_bsr import Lines

    if turned:
        return Lines(plan.column_starts, plan.order, plan.rows, plan.longest_columns)
    return Lines(plan.row_starts, None, parts[1], plan.longest_rows)


def _flat(x: Tensor) -> Tensor:
    """x ``[tokens, n]``, contiguous, on 16 bytes."""
    flat = x.reshape(-1, x.shape[-1]).contiguous()
    return flat.clone() if flat.data_ptr() % 16 else flat


def _precision(values: Tensor) -> str:
    """How float32 is multiplied: as torch's products are allowed to."""
    allowed = torch.backends.cuda.matmul.fp32_precision == "tf32"
    return "tf32" if allowed and values.dtype is torch.float32 else "ieee"


def spread_tiling(values: Tensor, turned: bool, lines: int, tokens: int) -> Tiling:
    """Inputs a program takes, and in which steps; the quickest, or nearly, measured on an H200."""
    from gossamer.ops.linear.triton_bsr import Tiling

    blocks, height, width = values.shape
    depth, out = (height, width) if turned else (width, height)
    if values.dtype is torch.float32:
        return Tiling(64, min(depth, 32), 8 if out == 128 else 4, 2)
    if turned and out == 128 and -(-tokens // 256) * lines >= _ENOUGH:
        return Tiling(256, min(depth, 64), 8, 5)
    tile = {128: 128, 64: 512 if blocks >= _LONG * lines and not turned else 256}.get(out, 256)
    while tile > 16 and -(-tokens // tile) * lines < _ENOUGH:
        tile //= 2
    if out < 64:
        return Tiling(max(tile, 64), min(depth, 64), 4, 3)
    return Tiling(tile, min(depth, 64), 8 if tile == 512 else 4, {512: 3, 256: 2}.get(tile, 3))


def gather_tiling(values: Tensor, turned: bool) -> Tiling:
    """Blocks of a line that a program takes, and in which steps; measured likewise."""
    from gossamer.ops.linear.triton_bsr import Tiling

    _, height, width = values.shape
    shared, other = (width, height) if turned else (height, width)
    if values.dtype is torch.float32:
        return Tiling(max(1, 64 // other), 32, 8 if shared == 128 else 4, 2)
    if shared < 64:
        return Tiling(256 // other, 32, 4, 4)
    return Tiling(256 // other, 64, 8, 3)


def gather_shares(blocks: int, lines: int, tokens: int, tiling: Tiling) -> tuple[int, int]:
    """Programs that share a line's blocks, with some to spare for long lines, and the tokens."""
    tiles = -(-blocks // (lines * tiling.tile))
    split = max(1, min(_ENOUGH // 2 // (lines * tiles), tokens // (8 * tiling.step), 8))
    return tiles + 1, split
