"""The compiled kernel of conv2d: lists of kept weights times strips of neighbouring pixels."""

from __future__ import annotations

import torch
from torch import Tensor

from gossamer import native
from gossamer.ops.conv.window import Bounds, Window
from gossamer.ops.linear import cpu
from gossamer.ops.linear.form import Form, Parts

LAYOUTS = ("csr", "condensed", "bitmask", "nm")


def refusal(x: Tensor, parts: Parts, form: Form, window: Window) -> str | None:
    """Why the compiled kernel does not cover this input, None where it does; by metadata alone."""
    if native.core is None:
        return "the compiled kernels are not installed"
    if not (x.is_cpu and parts[0].is_cpu):
        return f"the compiled kernel runs on the cpu, not on {x.device}"
    if x.dtype is not torch.float32 or parts[0].dtype not in cpu.FLOATS:
        return (f"the compiled kernel takes float32 images and float32 or bfloat16 weights, not "
                f"{x.dtype} by {parts[0].dtype}")
    if not all(part.is_contiguous() for part in parts):
        return "a part is not contiguous"
    return None


def account(x: Tensor, form: Form, window: Window) -> str:
    """What runs, and why."""
    copied = "" if x.is_contiguous() else (
        ", after a copy of the image that puts one channel behind the other")
    high, wide = window.kernel
    return f"{native.isa()} strips for {form.layout}, {high}x{wide}{copied}: float32 on the cpu"


def convolution(
    x: Tensor, parts: Parts, bias: Tensor | None, form: Form, window: Window, bounds: Bounds
) -> Tensor:
    """``clamp(W * x + b)`` for x ``[batch, in, height, width]``."""
    size = (x.shape[2], x.shape[3])
    out = window.out(*size)
    y = x.new_empty((x.shape[0], form.rows, *out))
    if y.numel() == 0:
        return y
    x = x.contiguous()
    if bias is not None:
        bias = bias.float().contiguous()
    cpu.core().panel_conv2d(
        *cpu.matrix_arguments(parts, form), x.data_ptr(), x.shape[0],
        (*size, *window.flat, *out), bounds, 0 if bias is None else bias.data_ptr(),
        y.data_ptr(), torch.get_num_threads(),
    )
    return y
