"""The compiled kernels for grouped N:M: rows of one pattern share their inputs."""

from __future__ import annotations

import functools

import torch
from torch import Tensor

from gossamer import native
from gossamer.core.grouped import combinations
from gossamer.layout import Packed
from gossamer.layout.group_nm import cut_of
from gossamer.ops.linear import cpu
from gossamer.ops.linear.form import Form, Parts
from gossamer.ops.linear.reference import result_dtype

LAYOUTS = ("group_nm",)


def refusal(x: Tensor, parts: Parts, form: Form) -> str | None:
    """Why the compiled kernels do not cover this input, None where they do; by metadata alone."""
    return cpu.refusal(x, parts, form)


def account(x: Tensor, form: Form) -> str:
    """What runs, and why."""
    return f"{native.isa()} groups for {form.layout}: rows of one pattern share their inputs"


def product(x: Tensor, parts: Parts, bias: Tensor | None, form: Form) -> Tensor:
    """``y = x W^T + b`` for x ``[..., cols]``."""
    values, order = parts[0], parts[1]
    cut = cut_of(Packed(form.layout, (form.rows, form.cols), {"values": values}))
    y = x.new_empty((*x.shape[:-1], form.rows), dtype=result_dtype(x, values))
    if y.numel() == 0 or cut is None:
        return y
    x = x.contiguous()
    if bias is not None and (bias.dtype not in cpu.FLOATS or not bias.is_contiguous()):
        bias = bias.float().contiguous()
    given = (values, order, places(cut.n, cut.m), x, bias, y)
    cpu.core().grouped_linear(
        [0 if part is None else part.data_ptr() for part in given],
        [part is not None and part.dtype is torch.bfloat16 for part in (values, x, bias, y)],
        [form.rows, form.cols, cut.runs, cut.patterns, cut.g, cut.n, cut.m],
        y.numel() // form.rows, torch.get_num_threads(),
    )
    return y


@functools.lru_cache(maxsize=64)
def places(n: int, m: int) -> Tensor:
    """int32 ``[P, N]``: the places of every pattern."""
    return torch.tensor(combinations(n, m), dtype=torch.int32)
