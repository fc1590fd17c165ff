"""The compiled kernels where rows share their columns: blocks, channel groups, grouped N:M."""

from __future__ import annotations

import functools

import torch
from torch import Tensor

from gossamer import native
from gossamer.core.grouped import combinations, grid
from gossamer.layout import Packed
from gossamer.layout.group_nm import cut_of
from gossamer.ops.linear import cpu
from gossamer.ops.linear.form import Form, Parts
from gossamer.ops.linear.reference import result_dtype

_KINDS = {"bsr": 0, "channel_groups": 1, "group_nm": 2}
LAYOUTS = tuple(_KINDS)


def refusal(x: Tensor, parts: Parts, form: Form) -> str | None:
    """Why the block kernels do not cover this input, None where they do; by metadata alone."""
    if form.layout == "group_nm" and parts[0].shape[-1] > _most_places():
        return f"the compiled kernels take N up to {_most_places()}"
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
    shape, patterns = _shape(values, form)
    addresses = (
        values.data_ptr(), index.data_ptr(), parts[-1].data_ptr() if form.layout == "bsr" else 0,
        0 if patterns is None else patterns.data_ptr(),
    )
    cpu.core().block_linear(
        (_KINDS[form.layout], form.rows, form.cols, *shape), addresses,
        values.dtype is torch.bfloat16, index.dtype is torch.int32, x.data_ptr(),
        x.dtype is torch.bfloat16, y.numel() // form.rows,
        0 if bias is None else bias.data_ptr(),
        bias is not None and bias.dtype is torch.bfloat16, y.data_ptr(),
        y.dtype is torch.bfloat16, torch.get_num_threads(),
    )
    return y


def _shape(values: Tensor, form: Form) -> tuple[tuple[int, int, int, int, int], Tensor | None]:
    """Height, width, group, runs and M for the compiled kernel, and the places of the patterns."""
    if form.layout == "bsr":
        return (values.shape[1], values.shape[2], 0, 0, 0), None
    if form.layout == "channel_groups":
        return (values.shape[2], values.shape[1], 0, 0, 0), None
    cut = cut_of(Packed(form.layout, (form.rows, form.cols), {"values": values}))
    cut = cut or grid((form.rows, form.cols), 1, 1, 1)
    return (cut.height, cut.n, cut.g, cut.runs, cut.m), places(cut.n, cut.m)


@functools.lru_cache(maxsize=64)
def places(n: int, m: int) -> Tensor:
    """int32 ``[P, N]``: the places of every pattern."""
    return torch.tensor(combinations(n, m), dtype=torch.int32)


def _most_places() -> int:
    return 0 if native.core is None else int(native.core.most_places)
