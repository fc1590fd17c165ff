"""gossamer::packed_linear as torch.library operators: kernel or reference, fake, gradients."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from gossamer.ops.linear import kernels, reference
from gossamer.ops.linear.form import form_of


@torch.library.custom_op("gossamer::packed_linear", mutates_args=())
def packed_linear(
    x: Tensor, values: Tensor, others: list[Tensor], bias: Tensor | None, layout: str,
    shape: list[int],
) -> Tensor:
    form = form_of(values, layout, (shape[0], shape[1]))
    return kernels.compute(x, (values, *others), bias, form)


@packed_linear.register_fake
def _(x: Tensor, values: Tensor, others: list[Tensor], bias: Any, layout: str,
      shape: list[int]) -> Tensor:
    return x.new_empty((*x.shape[:-1], shape[0]), dtype=reference.result_dtype(x, values))


@torch.library.custom_op("gossamer::packed_linear_grad_x", mutates_args=())
def packed_linear_grad_x(
    grad: Tensor, values: Tensor, others: list[Tensor], layout: str, shape: list[int],
    dtype: torch.dtype,
) -> Tensor:
    form = form_of(values, layout, (shape[0], shape[1]))
    return kernels.grad_x(grad, (values, *others), form).to(dtype)


@packed_linear_grad_x.register_fake
def _(grad: Tensor, values: Tensor, others: list[Tensor], layout: str, shape: list[int],
      dtype: torch.dtype) -> Tensor:
    return grad.new_empty((*grad.shape[:-1], shape[1]), dtype=dtype)


@torch.library.custom_op("gossamer::packed_linear_grad_values", mutates_args=())
def packed_linear_grad_values(
    grad: Tensor, x: Tensor, values: Tensor, others: list[Tensor], layout: str, shape: list[int],
) -> Tensor:
    form = form_of(values, layout, (shape[0], shape[1]))
    return kernels.grad_values(grad, x, (values, *others), form)


@packed_linear_grad_values.register_fake
def _(grad: Tensor, x: Tensor, values: Tensor, others: list[Tensor], layout: str,
      shape: list[int]) -> Tensor:
    return values.new_empty(values.shape)


def _remember(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
    x, values, others, bias, layout, shape = inputs
    ctx.save_for_backward(x, values, *others)
    ctx.layout, ctx.shape = layout, shape
    ctx.bias_dtype = None if bias is None else bias.dtype


def _backward(ctx: Any, grad: Tensor) -> tuple[Any, ...]:
    x, values, *others = ctx.saved_tensors
    grad = grad.contiguous()
    grad_x = grad_values = grad_bias = None
    if ctx.needs_input_grad[0]:
        grad_x = packed_linear_grad_x(grad, values, others, ctx.layout, ctx.shape, x.dtype)
    if ctx.needs_input_grad[1]:
        grad_values = packed_linear_grad_values(grad, x, values, others, ctx.layout, ctx.shape)
    if ctx.bias_dtype is not None and ctx.needs_input_grad[3]:
        grad_bias = grad.flatten(0, -2).sum(0).to(ctx.bias_dtype)
    return grad_x, grad_values, [None] * len(others), grad_bias, None, None


packed_linear.register_autograd(_backward, setup_context=_remember)
