"""conv2d and explain: check the input, then compute, through the operator where torch must see it.
"""

from __future__ import annotations

from torch import Tensor

from gossamer.core import ConfigError, UnsupportedError
from gossamer.layout import Packed
from gossamer.ops.conv.kernels import KERNELS, REFERENCE, compute
from gossamer.ops.conv.op import packed_conv2d
from gossamer.ops.conv.window import FREE, POINT, Bounds, Window
from gossamer.ops.linear.form import Form, Parts, form_of, parts_of
from gossamer.ops.operands import check_operands, is_input, torch_watches


def conv2d(
    x: Tensor, packed: Packed, bias: Tensor | None = None, window: Window = POINT,
    bounds: Bounds = FREE,
) -> Tensor:
    """``y = clamp(W * x + b)`` with W packed, in the wider dtype of x and values.

    An absent weight counts as a zero. Where x is inf or NaN, compiled kernels skip absent
    weights, the reference multiplies by the zero.

    Args:
        x: ``[batch, in, height, width]``, any float dtype; one channel behind the other is the
            form that kernels read, another memory format is copied to it.
        packed: the weight ``[out, in * kernel rows * kernel columns]``, as a dense weight
            ``[out, in, rows, columns]`` flattens.
        bias: ``[out]``, or None.
        window: kernel size, stride, padding and dilation.
        bounds: least and greatest output; `RELU` and `RELU6` are such bounds.

    Returns:
        ``[batch, out, height', width']``, one channel behind the other.

    Raises:
        UnsupportedError: x or the bias does not fit the weight, or the image is too small.
        ConfigError: a window or bounds that make no sense.
        SupportError: the parts of the weight contradict one another.

    >>> import torch
    >>> from gossamer.layout import pack
    >>> weight = pack(torch.ones(2, 3 * 9), layout="csr")
    >>> conv2d(torch.ones(1, 3, 5, 5), weight, window=Window.square(3)).shape
    torch.Size([1, 2, 3, 3])
    """
    packed.validate()
    window.checked()
    if not bounds[0] <= bounds[1]:
        raise ConfigError(f"The bounds of an output must be in order, not {bounds}.")
    form = form_of(packed.values, packed.layout, packed.shape)
    return run(x, parts_of(packed), bias, form, window, bounds)


def explain(x: Tensor, packed: Packed, window: Window = POINT) -> str:
    """Which kernel `conv2d` runs for this input, and why.

    >>> import torch
    >>> from gossamer.layout import pack
    >>> explain(torch.ones(1, 4, 2, 2, dtype=torch.float64), pack(torch.eye(4), layout="csr"))
    "reference (unpack, then torch's dense convolution): the compiled kernel takes float32 images \
and float32 or bfloat16 weights, not torch.float64 by torch.float32"
    """
    packed.validate()
    window.checked()
    form = form_of(packed.values, packed.layout, packed.shape)
    _check(x, packed.values, None, form, window)
    kernel, why = KERNELS.plan(form.layout, x, parts_of(packed), form, window)
    return f"{REFERENCE}: {why}" if kernel is None else kernel.account(x, form, window)


def run(
    x: Tensor, parts: Parts, bias: Tensor | None, form: Form, window: Window, bounds: Bounds
) -> Tensor:
    """`conv2d` on parts, a window and bounds that were checked before."""
    _check(x, parts[0], bias, form, window)
    if torch_watches(x, parts[0], bias):
        y: Tensor = packed_conv2d(x, list(parts), bias, form.layout, [form.rows, form.cols],
                                  window.flat, list(bounds))
        return y
    return compute(x, parts, bias, form, window, bounds)


def _check(x: Tensor, values: Tensor, bias: Tensor | None, form: Form, window: Window) -> None:
    """Raise UnsupportedError where x or the bias does not fit the weight."""
    high, wide = window.kernel
    places = high * wide
    if form.cols % places:
        raise UnsupportedError(
            f"A packed weight of {form.rows}x{form.cols} cannot be one of {high}x{wide} kernels: "
            f"its columns are no multiple of {places}."
        )
    channels, shape = form.cols // places, x.shape
    if len(shape) != 4 or shape[1] != channels or not is_input(x):
        raise UnsupportedError(
            f"A packed convolution of {channels} channels needs a dense float input "
            f"[batch, {channels}, height, width], not {x.dtype} of shape {tuple(shape)}."
        )
    if min(window.out(shape[2], shape[3])) < 1:
        raise UnsupportedError(
            f"An image of {shape[2]}x{shape[3]} is too small for a kernel of {high}x{wide} "
            f"with padding {window.padding} and dilation {window.dilation}."
        )
    check_operands(x, values, bias, form.rows)
