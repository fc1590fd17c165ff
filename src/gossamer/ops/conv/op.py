"""gossamer::packed_conv2d as torch.library operators: kernel or reference, fake, gradients."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from gossamer.ops.conv import reference
from gossamer.ops.conv.kernels import compute
from gossamer.ops.conv.window import Window
from gossamer.ops.linear.form import form_of, rebuild
from gossamer.ops.linear.reference import result_dtype


@torch.library.custom_op("gossamer::packed_conv2d", mutates_args=())
def packed_conv2d(
    x: Tensor, parts: list[Tensor], bias: Tensor | None, layout: str, shape: list[int],
    window: list[int], bounds: list[float],
) -> Tensor:
    form = form_of(parts[0], layout, (shape[0], shape[1]))
    return compute(x, tuple(parts), bias, form, Window.from_flat(window), (bounds[0], bounds[1]))


@packed_conv2d.register_fake
def _(x: Tensor, parts: list[Tensor], bias: Any, layout: str, shape: list[int],
      window: list[int], bounds: list[float]) -> Tensor:
    out = Window.from_flat(window).out(x.shape[2], x.shape[3])
    return x.new_empty((x.shape[0], shape[0], *out), dtype=result_dtype(x, parts[0]))


@torch.library.custom_op("gossamer::packed_conv2d_grad_x", mutates_args=())
def packed_conv2d_grad_x(
    grad: Tensor, x: Tensor, parts: list[Tensor], layout: str, shape: list[int], window: list[int],
) -> Tensor:
    packed = rebuild(tuple(parts), form_of(parts[0], layout, (shape[0], shape[1])))
    given = reference.grad_x(grad, list(x.shape), packed, Window.from_flat(window))
    return given.to(x.dtype).contiguous()


@packed_conv2d_grad_x.register_fake
def _(grad: Tensor, x: Tensor, parts: list[Tensor], layout: str, shape: list[int],
      window: list[int]) -> Tensor:
    return x.new_empty(x.shape)


@torch.library.custom_op("gossamer::packed_conv2d_grad_values", mutates_args=())
def packed_conv2d_grad_values(
    grad: Tensor, x: Tensor, parts: list[Tensor], layout: str, shape: list[int], window: list[int],
) -> Tensor:
    packed = rebuild(tuple(parts), form_of(parts[0], layout, (shape[0], shape[1])))
    return reference.grad_values(grad, x, packed, Window.from_flat(window))


@packed_conv2d_grad_values.register_fake
def _(grad: Tensor, x: Tensor, parts: list[Tensor], layout: str, shape: list[int],
      window: list[int]) -> Tensor:
    return parts[0].new_empty(parts[0].shape)


def _remember(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
    x, parts, bias, layout, shape, window, bounds = inputs
    ctx.save_for_backward(x, output, *parts)
    ctx.spec, ctx.bounds = (layout, shape, window), bounds
    ctx.bias_dtype = None if bias is None else bias.dtype
    ctx.trained = parts[0].requires_grad


def _backward(ctx: Any, grad: Tensor) -> tuple[Any, ...]:
    x, y, *parts = ctx.saved_tensors
    low, high = ctx.bounds
    grad = (grad * ((y > low) & (y < high))).contiguous()  # as torch's relu and relu6 have it
    grad_x = grad_bias = None
    grad_parts: list[Tensor | None] = [None] * len(parts)
    if ctx.needs_input_grad[0]:
        grad_x = packed_conv2d_grad_x(grad, x, parts, *ctx.spec)
    if ctx.trained:
        grad_parts[0] = packed_conv2d_grad_values(grad, x, parts, *ctx.spec)
    if ctx.bias_dtype is not None and ctx.needs_input_grad[2]:
        grad_bias = grad.sum((0, 2, 3)).to(ctx.bias_dtype)
    return grad_x, grad_parts, grad_bias, None, None, None, None


packed_conv2d.register_autograd(_backward, setup_context=_remember)
