"""gossamer::packed_linear as torch.library operators: kernel or reference, fake, gradients."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from gossamer.ops.linear import cpu, reference
from gossamer.ops.linear.form import Form, Parts, form_of, rebuild


def plan(x: Tensor, parts: Parts, form: Form) -> tuple[str, str]:
    """``(kind, why)`` for x ``[..., cols]``: kind is kernel, expand or reference."""
    refused = cpu.refusal(x, parts, form)
    if refused is not None:
        return "reference", refused
    batch = x.numel() // max(1, form.cols)
    if batch <= cpu.MOST_INPUTS:
        return "kernel", f"{batch} inputs are at most {cpu.MOST_INPUTS}"
    return "expand", f"{batch} inputs are over {cpu.MOST_INPUTS}, where torch's product is quicker"


def compute(x: Tensor, parts: Parts, bias: Tensor | None, form: Form) -> Tensor:
    """``y = x W^T + b`` by what `plan` says, for x ``[..., cols]``; no gradients."""
    if cpu.refusal(x, parts, form) is not None:
        return reference.linear(x, rebuild(parts, form), bias)
    if x.numel() <= cpu.MOST_INPUTS * form.cols:
        return cpu.multiply(x, parts, bias, form)
    return cpu.multiply_expanded(x, parts, bias, form)


@torch.library.custom_op("gossamer::packed_linear", mutates_args=())
def packed_linear(
    x: Tensor, values: Tensor, index: Tensor | None, starts: Tensor | None,
    bias: Tensor | None, layout: str, shape: list[int],
) -> Tensor:
    form = form_of(values, layout, (shape[0], shape[1]))
    return compute(x, (values, index, starts), bias, form)


@packed_linear.register_fake
def _(x: Tensor, values: Tensor, index: Any, starts: Any, bias: Any, layout: str,
      shape: list[int]) -> Tensor:
    return x.new_empty((*x.shape[:-1], shape[0]), dtype=reference.result_dtype(x, values))


@torch.library.custom_op("gossamer::packed_linear_backward", mutates_args=())
def packed_linear_backward(
    grad: Tensor, x: Tensor, values: Tensor, index: Tensor | None, starts: Tensor | None,
    layout: str, shape: list[int],
) -> tuple[Tensor, Tensor]:
    form = form_of(values, layout, (shape[0], shape[1]))
    packed = rebuild((values, index, starts), form)
    return (
        reference.grad_x(grad, packed).to(x.dtype),
        reference.grad_values(grad, x, packed),
    )


@packed_linear_backward.register_fake
def _(grad: Tensor, x: Tensor, values: Tensor, index: Any, starts: Any, layout: str,
      shape: list[int]) -> tuple[Tensor, Tensor]:
    return x.new_empty(x.shape), values.new_empty(values.shape)


def _remember(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
    x, values, index, starts, bias, layout, shape = inputs
    ctx.save_for_backward(x, values, index, starts)
    ctx.layout, ctx.shape = layout, shape
    ctx.bias_dtype = None if bias is None else bias.dtype


def _backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
    x, values, index, starts = ctx.saved_tensors
    grad_x, grad_values = packed_linear_backward(
        grad.contiguous(), x, values, index, starts, ctx.layout, ctx.shape
    )
    grad_bias = None
    if ctx.bias_dtype is not None:
        grad_bias = grad.flatten(0, -2).sum(0).to(ctx.bias_dtype)
    return grad_x, grad_values, None, None, grad_bias, None, None


packed_linear.register_autograd(_backward, setup_context=_remember)
