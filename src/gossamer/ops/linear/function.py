"""linear and explain: check the input, then compute, through the operator where torch must see it.
"""

from __future__ import annotations

import torch
from torch import Tensor

from gossamer import native
from gossamer.core import UnsupportedError
from gossamer.layout import Packed
from gossamer.ops.linear.op import Parts, Shape, compute, packed_linear, parts_of, plan


def linear(x: Tensor, packed: Packed, bias: Tensor | None = None) -> Tensor:
    """``y = x W^T + b`` with W packed, in the wider dtype of x and values.

    An absent weight counts as a zero. Where x is inf or NaN in a column, kernels of csr and
    condensed skip absent weights, the others multiply by the zero.

    Args:
        x: ``[..., cols]``, any float dtype; on the device of the parts.
        packed: the weight ``[rows, cols]``.
        bias: ``[rows]``, or None.

    Returns:
        ``[..., rows]``.

    Raises:
        UnsupportedError: x or the bias does not fit the weight.
        SupportError: the parts of the weight contradict one another.

    >>> from gossamer.layout import pack
    >>> linear(torch.ones(2, 4), pack(torch.eye(4), layout="bitmask")).tolist()[0]
    [1.0, 1.0, 1.0, 1.0]
    """
    packed.validate()
    return run(x, parts_of(packed), bias, packed.layout, packed.shape)


def explain(x: Tensor, packed: Packed) -> str:
    """Which kernel `linear` runs for this input, and why.

    >>> from gossamer.layout import pack
    >>> explain(torch.ones(2, 4, dtype=torch.float64), pack(torch.eye(4), layout="csr"))
    'reference (unpack, then a dense product): the compiled kernels take float32 and bfloat16, \
not torch.float64 by torch.float32'
    """
    _check(x, packed.values, None, packed.shape)
    kind, why = plan(x.reshape(-1, packed.shape[1]), parts_of(packed), packed.layout)
    names = {
        "kernel": f"{native.isa()} kernel for {packed.layout}",
        "expand": f"{native.isa()} expansion of {packed.layout}, then torch's dense product",
        "reference": "reference (unpack, then a dense product)",
    }
    return f"{names[kind]}: {why}"


def run(x: Tensor, parts: Parts, bias: Tensor | None, layout: str, shape: Shape) -> Tensor:
    """`linear` on parts that were checked before."""
    rows, cols = shape
    values, index, starts = parts
    _check(x, values, bias, shape)
    flat = x if x.dim() == 2 else x.reshape(-1, cols)
    if _torch_watches(x, values, bias):
        y: Tensor = packed_linear(flat, values, index, starts, bias, layout, [rows, cols])
    else:
        y = compute(flat, parts, bias, layout, shape)
    return y if x.dim() == 2 else y.view(*x.shape[:-1], rows)


def _torch_watches(x: Tensor, values: Tensor, bias: Tensor | None) -> bool:
    """True where the call must go through torch's dispatcher, which costs several microseconds.

    That is while compiling, where a gradient is wanted, and under subclasses, modes and function
    transforms.
    """
    if torch.compiler.is_compiling() or type(x) is not Tensor:
        return True
    if torch.is_grad_enabled() and (
        x.requires_grad or values.requires_grad or (bias is not None and bias.requires_grad)
    ):
        return True
    return (
        torch._C._len_torch_dispatch_stack() > 0
        or torch._C._functorch.peek_interpreter_stack() is not None
    )


def _check(x: Tensor, values: Tensor, bias: Tensor | None, shape: Shape) -> None:
    """Raise UnsupportedError where x or the bias does not fit a weight of this shape."""
    rows, cols = shape
    if x.dim() == 0 or x.shape[-1] != cols or not x.is_floating_point():
        raise UnsupportedError(
            f"A packed weight of shape {shape} needs a float input [..., {cols}], "
            f"not {x.dtype} of shape {tuple(x.shape)}."
        )
    if x.device != values.device:
        raise UnsupportedError(
            f"The input is on {x.device} and the packed weight on {values.device}; "
            "move one of them."
        )
    if bias is not None and (bias.dim() != 1 or bias.shape[0] != rows):
        raise UnsupportedError(
            f"A packed weight of shape {shape} needs a bias of shape ({rows},), "
            f"not {tuple(bias.shape)}."
        )
