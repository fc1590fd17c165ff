"""gossamer::packed_linear as torch.library operators: kernel or reference, fake, gradients."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from gossamer.layout import Packed
from gossamer.ops.linear import cpu, reference

# The part of each layout that says where the values lie.
INDEX = {"dense": None, "bitmask": "bits", "nm": "index", "csr": "columns", "condensed": "columns"}

Parts = tuple[Tensor, Tensor | None, Tensor | None]
Shape = tuple[int, int]


def parts_of(packed: Packed) -> Parts:
    """Values, index and row starts of a packed matrix, as the operators take them."""
    name = INDEX[packed.layout]
    return packed.values, None if name is None else packed.parts[name], packed.starts


def rebuild(parts: Parts, layout: str, shape: Shape) -> Packed:
    """The Packed that `parts_of` took apart."""
    values, index, starts = parts
    named = {"values": values}
    name = INDEX[layout]
    if name is not None and index is not None:
        named[name] = index
    if layout == "csr" and starts is not None:
        named["row_counts"] = starts.diff().to(torch.int32)
    return Packed(layout, shape, named)


def plan(x: Tensor, parts: Parts, layout: str) -> tuple[str, str]:
    """``(kind, why)`` for x ``[batch, cols]``: kind is kernel, expand or reference."""
    refused = cpu.refusal(x, parts, layout)
    if refused is not None:
        return "reference", refused
    batch = x.shape[0]
    if batch <= cpu.MOST_INPUTS:
        return "kernel", f"batch {batch} is at most {cpu.MOST_INPUTS}"
    return "expand", f"batch {batch} is over {cpu.MOST_INPUTS}, where torch's product is quicker"


def compute(x: Tensor, parts: Parts, bias: Tensor | None, layout: str, shape: Shape) -> Tensor:
    """``y = x W^T + b`` by what `plan` says, for x ``[batch, cols]``; no gradients."""
    kind, _ = plan(x, parts, layout)
    if kind == "kernel":
        return cpu.multiply(x, parts, bias, layout, shape)
    if kind == "expand":
        return cpu.multiply_expanded(x, parts, bias, layout, shape)
    return reference.linear(x, rebuild(parts, layout, shape), bias)


@torch.library.custom_op("gossamer::packed_linear", mutates_args=())
def packed_linear(
    x: Tensor, values: Tensor, index: Tensor | None, starts: Tensor | None,
    bias: Tensor | None, layout: str, shape: list[int],
) -> Tensor:
    return compute(x, (values, index, starts), bias, layout, (shape[0], shape[1]))


@packed_linear.register_fake
def _(x: Tensor, values: Tensor, index: Any, starts: Any, bias: Any, layout: str,
      shape: list[int]) -> Tensor:
    return x.new_empty((x.shape[0], shape[0]), dtype=reference.result_dtype(x, values))


@torch.library.custom_op("gossamer::packed_linear_backward", mutates_args=())
def packed_linear_backward(
    grad: Tensor, x: Tensor, values: Tensor, index: Tensor | None, starts: Tensor | None,
    layout: str, shape: list[int],
) -> tuple[Tensor, Tensor]:
    packed = rebuild((values, index, starts), layout, (shape[0], shape[1]))
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
    grad_bias = None if ctx.bias_dtype is None else grad.sum(0).to(ctx.bias_dtype)
    return grad_x, grad_values, None, None, grad_bias, None, None


packed_linear.register_autograd(_backward, setup_context=_remember)
