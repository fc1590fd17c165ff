"""The truth: unpack, then torch's dense convolution; also the gradients."""

from __future__ import annotations

import torch
from torch import Tensor

from gossamer.core import Support
from gossamer.layout import Packed, layout_of, support_of, unpack
from gossamer.ops.conv.window import Bounds, Window
from gossamer.ops.linear.reference import result_dtype, without_autocast


def dense_weight(packed: Packed, window: Window) -> Tensor:
    """The weight as torch has it: ``[out, in, kernel rows, kernel columns]``."""
    return unpack(packed).view(packed.shape[0], -1, *window.kernel)


def conv2d(
    x: Tensor, packed: Packed, bias: Tensor | None, window: Window, bounds: Bounds
) -> Tensor:
    """``clamp(W * x + b)`` for x ``[batch, in, height, width]``, in the wider dtype."""
    dtype = result_dtype(x, packed.values)
    with without_autocast(x.device):
        y = torch.conv2d(
            x.to(dtype).contiguous(), dense_weight(packed, window).to(dtype),
            None if bias is None else bias.to(dtype), window.stride, window.padding,
            window.dilation,
        )
    return y.clamp(*bounds)


def grad_x(grad: Tensor, shape: list[int], packed: Packed, window: Window) -> Tensor:
    """``dL/dx`` of that shape."""
    weight = dense_weight(packed, window).to(grad.dtype)
    return _gradients(grad, grad.new_empty(1).expand(shape), weight, window, 0)


def grad_values(grad: Tensor, x: Tensor, packed: Packed, window: Window) -> Tensor:
    """``dL/dvalues``: the dense weight's gradient at the kept places, shaped as the values."""
    rows, cols = packed.shape
    weight = grad.new_empty(1).expand(rows, cols // window.places, *window.kernel)
    full = _gradients(grad, x.to(grad.dtype), weight, window, 1).contiguous()
    support = Support.full(rows, cols) if packed.layout == "dense" else support_of(packed)
    return layout_of(packed.layout).pack(full.view(rows, cols).to(packed.dtype), support)["values"]


def _gradients(grad: Tensor, x: Tensor, weight: Tensor, window: Window, which: int) -> Tensor:
    """The gradient with respect to x (0) or the weight (1)."""
    wanted = [which == 0, which == 1, False]
    with without_autocast(grad.device):
        found = torch.ops.aten.convolution_backward(
            grad, x, weight, None, window.stride, window.padding, window.dilation, False, [0, 0],
            1, wanted)
    given: Tensor = found[which]
    return given
