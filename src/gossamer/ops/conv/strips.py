"""The compiled kernel of conv2d: lists of kept weights times strips of neighbouring pixels."""

from __future__ import annotations

import torch
from torch import Tensor

from gossamer import native
from gossamer.ops.conv.window import Bounds, Window
from gossamer.ops.linear import cpu
from gossamer.ops.linear.form import Form, Parts

_LISTS = ("csr", "condensed", "bitmask", "nm")
_SHARING = {"bsr": 3, "channel_groups": 4}  # as csr and as condensed, of groups of rows
LAYOUTS = (*_LISTS, *_SHARING)


def refusal(x: Tensor, parts: Parts, form: Form, window: Window) -> str | None:
    """Why the compiled kernel does not cover this input, None where it does; by metadata alone."""
    if native.core is None:
        return "the compiled kernels are not installed"
    if not (x.is_cpu and parts[0].is_cpu):
        return f"the compiled kernel runs on the cpu, not on {x.device}"
    if x.dtype is not torch.float32 or parts[0].dtype not in cpu.FLOATS:
        return (f"the compiled kernel takes float32 images and float32 or bfloat16 weights, not "
                f"{x.dtype} by {parts[0].dtype}")
    if form.layout in _SHARING and parts[0].dtype is not torch.float32:
        return f"rows that share columns need float32 weights, not {parts[0].dtype}"
    if form.layout == "bsr" and parts[0].shape[2] != 1:
        return "blocks must be one column wide"
    for part in parts:
        if not part.is_contiguous():
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
    images, _, *size = x.shape
    out = window.out(*size)
    y = x.new_empty((images, form.rows, *out))
    if y.numel() == 0:
        return y
    if not x.is_contiguous():
        x = x.contiguous()
    if bias is not None and (bias.dtype is not torch.float32 or not bias.is_contiguous()):
        bias = bias.float().contiguous()
    cpu.core().conv2d(
        *_arguments(parts, form), x.data_ptr(), (form.rows, _group(parts, form)), images,
        (*size, *window.flat, *out), bounds, 0 if bias is None else bias.data_ptr(),
        y.data_ptr(), torch.get_num_threads(),
    )
    return y


def _group(parts: Parts, form: Form) -> int:
    """Rows that share their columns."""
    if form.layout == "bsr":
        return parts[0].shape[1]
    return parts[0].shape[2] if form.layout == "channel_groups" else 1


def _arguments(
    parts: Parts, form: Form
) -> tuple[int, tuple[int, ...], tuple[int, int, int], bool, bool]:
    """What the kernel is called with first: the matrix, or its groups of rows taken for rows."""
    if form.layout not in _SHARING:
        return cpu.matrix_arguments(parts, form)
    values, columns = parts[0], parts[1]
    groups = -(-form.rows // _group(parts, form))
    kept = values.shape[1] if form.layout == "channel_groups" else 0
    starts = parts[-1].data_ptr() if form.layout == "bsr" else 0
    sizes = (groups, form.cols, kept, columns.numel(), 0, 0)
    addresses = (values.data_ptr(), columns.data_ptr(), starts)
    return _SHARING[form.layout], sizes, addresses, False, columns.dtype is torch.int32
