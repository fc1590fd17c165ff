"""The compiled kernels where rows share their columns: blocks and channel groups."""

from __future__ import annotations

import torch
from torch import Tensor

from gossamer import native
from gossamer.ops.linear import cpu
from gossamer.ops.linear.form import Form, Parts
from gossamer.ops.linear.reference import result_dtype

_KINDS = {"bsr": 0, "channel_groups": 1}
LAYOUTS = tuple(_KINDS)


def refusal(x: Tensor, parts: Parts, form: Form) -> str | None:
    """Why the block kernels do not cover this input, None where they do; by metadata alone."""
    return cpu.refusal(x, parts, form)


def account(x: Tensor, form: Form) -> str:
    """What runs, and why."""
    return f"{native.isa()} tiles for {form.layout}: rows share their columns"


def product(x: Tensor, parts: Parts, bias: Tensor | None, form: Form) -> Tensor:
    """``y = x W^T + b`` for x ``[..., cols]``."""
    values, index = parts[0], parts[1]
    y = x.new_empty((*x.shape[:-1], form.rows), dtype=result_dtype(x, values))
    if y.numel() == 0:
        return y
    x = x.contiguous()
    if bias is not None and (bias.dtype not in cpu.FLOATS or not bias.is_contiguous()):
        bias = bias.float().contiguous()
    bsr = form.layout == "bsr"
    sizes = (values.shape[1], values.shape[2]) if bsr else (values.shape[2], values.shape[1])
    addresses = (values.data_ptr(), index.data_ptr(), parts[-1].data_ptr() if bsr else 0)
    cpu.core().block_linear(
        (_KINDS[form.layout], form.rows, form.cols, *sizes), addresses,
        values.dtype is torch.bfloat16, index.dtype is torch.int32, x.data_ptr(),
        x.dtype is torch.bfloat16, y.numel() // form.rows,
        0 if bias is None else bias.data_ptr(),
        bias is not None and bias.dtype is torch.bfloat16, y.data_ptr(),
        y.dtype is torch.bfloat16, torch.get_num_threads(),
    )
    return y
