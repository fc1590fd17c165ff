"""The compiled kernels for many inputs: lists of kept weights times panels of inputs."""

from __future__ import annotations

import torch
from torch import Tensor

from gossamer import native
from gossamer.ops.linear import cpu
from gossamer.ops.linear.form import Form, Parts
from gossamer.ops.linear.reference import result_dtype

# From how many inputs, and up to which density, lists are quicker than dense rows made from them;
# the last is the density for _MANY inputs, which share the decoding of the lists.
_FROM = {
    "csr": (8, 0.3, 0.7), "condensed": (8, 0.3, 0.7), "bitmask": (16, 0.2, 0.55),
    "nm": (16, 0.2, 0.55),
}
_MANY = 64
LAYOUTS = tuple(_FROM)


def refusal(x: Tensor, parts: Parts, form: Form) -> str | None:
    """Why the panels do not cover this input, None where they do; by metadata alone."""
    fewest, densest, densest_of_many = _FROM[form.layout]
    batch = x.numel() // max(1, form.cols)
    if batch < fewest:
        return f"{batch} inputs are fewer than the {fewest} that fill a panel"
    limit = densest_of_many if batch >= _MANY else densest
    if parts[0].numel() > limit * form.rows * form.cols:
        return f"over a density of {limit} dense rows are quicker for {batch} inputs"
    refused = cpu.refusal(x, parts, form)
    if refused is not None:
        return refused
    half = result_dtype(x, parts[0]) is torch.bfloat16
    if half and batch > cpu.MOST_INPUTS and cpu.core().has_avx512_bf16():
        return "this CPU multiplies dense bfloat16 quicker"
    return None


def account(x: Tensor, form: Form) -> str:
    """What runs, and why."""
    batch = x.numel() // max(1, form.cols)
    return f"{native.isa()} panels for {form.layout}: {batch} inputs share few weights"


def product(x: Tensor, parts: Parts, bias: Tensor | None, form: Form) -> Tensor:
    """``y = x W^T + b`` for x ``[..., cols]``."""
    y = x.new_empty((*x.shape[:-1], form.rows), dtype=result_dtype(x, parts[0]))
    if y.numel() == 0:
        return y
    x = x.contiguous()
    if bias is not None and (bias.dtype not in cpu.FLOATS or not bias.is_contiguous()):
        bias = bias.float().contiguous()
    cpu.core().panel_linear(
        *cpu.matrix_arguments(parts, form), x.data_ptr(), x.dtype is torch.bfloat16,
        y.numel() // form.rows, 0 if bias is None else bias.data_ptr(),
        bias is not None and bias.dtype is torch.bfloat16, y.data_ptr(),
        y.dtype is torch.bfloat16, torch.get_num_threads(),
    )
    return y
