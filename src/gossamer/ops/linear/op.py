"""gossamer::packed_linear as torch.library operators: forward, fake and gradients."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from gossamer.layout import Packed
from gossamer.ops.linear import reference

# Second part of each layout; its third, where there is one, is derived (row starts).
INDEX = {"dense": None, "bitmask": "bits", "nm": "index", "csr": "columns", "condensed": "columns"}


def rebuild(
    values: Tensor, index: Tensor | None, starts: Tensor | None, layout: str, shape: list[int]
) -> Packed:
    """The Packed that these tensors came from."""
    parts = {"values": values}
    name = INDEX[layout]
    if name is not None and index is not None:
        parts[name] = index
    if layout == "csr" and starts is not None:
        parts["row_counts"] = starts.diff().to(torch.int32)
    return Packed(layout, (shape[0], shape[1]), parts)


@torch.library.custom_op("gossamer::packed_linear", mutates_args=())
def packed_linear(
    x: Tensor, values: Tensor, index: Tensor | None, starts: Tensor | None,
    bias: Tensor | None, layout: str, shape: list[int],
) -> Tensor:  # fmt: skip
    packed = rebuild(values, index, starts, layout, shape)
    return reference.linear(x, packed, bias)


@packed_linear.register_fake
def _(x: Tensor, values: Tensor, index: Any, starts: Any, bias: Any, layout: str,
      shape: list[int]) -> Tensor:
    return x.new_empty((x.shape[0], shape[0]), dtype=reference.result_dtype(x, values))


@torch.library.custom_op("gossamer::packed_linear_backward", mutates_args=())
def packed_linear_backward(
    grad: Tensor, x: Tensor, values: Tensor, index: Tensor | None, starts: Tensor | None,
    layout: str, shape: list[int],
) -> list[Tensor]:
    packed = rebuild(values, index, starts, layout, shape)
    return [
        reference.grad_x(grad, packed).to(x.dtype),
        reference.grad_values(grad, x, packed),
    ]


@packed_linear_backward.register_fake
def _(grad: Tensor, x: Tensor, values: Tensor, index: Any, starts: Any, layout: str,
      shape: list[int]) -> list[Tensor]:
    return [torch.empty_like(x), torch.empty_like(values)]


def _remember(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
    x, values, index, starts, bias, layout, shape = inputs
    ctx.save_for_backward(x, values, index, starts)
    ctx.meta = (layout, shape, None if bias is None else bias.dtype)


def _backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
    x, values, index, starts = ctx.saved_tensors
    layout, shape, bias_dtype = ctx.meta
    grad_x, grad_values = packed_linear_backward(
        grad.contiguous(), x, values, index, starts, layout, shape
    )
    grad_bias = None if bias_dtype is None else grad.sum(0).to(bias_dtype)
    return grad_x, grad_values, None, None, grad_bias, None, None


packed_linear.register_autograd(_backward, setup_context=_remember)
