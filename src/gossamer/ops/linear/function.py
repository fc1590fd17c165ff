"""linear and explain: check the input, then compute, through the operator where torch must see it.
"""

from __future__ import annotations

from torch import Tensor

from gossamer.core import UnsupportedError
from gossamer.layout import Packed
from gossamer.ops.linear import gpu
from gossamer.ops.linear.form import Form, Parts, form_of, parts_of
from gossamer.ops.linear.kernels import KERNELS, REFERENCE, compute
from gossamer.ops.linear.op import packed_linear
from gossamer.ops.operands import check_operands, is_input, torch_watches


def linear(x: Tensor, packed: Packed, bias: Tensor | None = None) -> Tensor:
    """``y = x W^T + b`` with W packed, in the wider dtype of x and values.

    An absent weight counts as a zero. Where an input is inf or NaN in a column, its outputs that
    keep a weight there show it; in the others a kernel may skip the absent weight or multiply by
    the zero, which gives NaN. Outputs of other inputs are as ever. For `torch.compile` with
    fullgraph, call ``packed.validate()`` before; `PackedLinear` needs nothing.
    Under autocast on a GPU x and float values are taken in its dtype, as in torch's own products.

    Args:
        x: ``[..., cols]``, any float dtype; on the device of the parts.
        packed: the weight ``[rows, cols]``.
        bias: ``[rows]``, or None.

    Returns:
        ``[..., rows]``.

    Raises:
        UnsupportedError: x or the bias does not fit the weight.
        SupportError: the parts of the weight contradict one another.

    >>> import torch
    >>> from gossamer.layout import pack
    >>> linear(torch.ones(2, 4), pack(torch.eye(4), layout="bitmask")).tolist()[0]
    [1.0, 1.0, 1.0, 1.0]
    """
    packed.validate()
    return run(x, parts_of(packed), bias, form_of(packed.values, packed.layout, packed.shape))


def explain(x: Tensor, packed: Packed) -> str:
    """Which kernel `linear` runs for this input, and why.

    >>> import torch
    >>> from gossamer.layout import pack
    >>> explain(torch.ones(2, 4, dtype=torch.float64), pack(torch.eye(4), layout="ablated"))
    'reference (unpack, then a dense product): the compiled kernels take float32 and bfloat16, \
not torch.float64 by torch.float32'
    """
    packed.validate()
    form = form_of(packed.values, packed.layout, packed.shape)
    _check(x, packed.values, None, form)
    kernel, why = KERNELS.plan(form.layout, x, parts_of(packed), form)
    if kernel is None:
        return f"{REFERENCE}: {why}"
    if kernel.account is not None:
        return kernel.account(x, form)
    return f"{kernel.name} for {packed.layout}: {why or 'it covers this input'}"


def run(x: Tensor, parts: Parts, bias: Tensor | None, form: Form) -> Tensor:
    """`linear` on parts that were checked before."""
    _check(x, parts[0], bias, form)
    if x.is_cuda:
        x, parts = gpu.in_autocast(x, parts)
    values = parts[0]
    if torch_watches(x, values, bias):
        y: Tensor = packed_linear(
            x, values, list(parts[1:]), bias, form.layout, [form.rows, form.cols]
        )
        return y
    return compute(x, parts, bias, form)


def _check(x: Tensor, values: Tensor, bias: Tensor | None, form: Form) -> None:
    """Raise UnsupportedError where x or the bias does not fit the weight."""
    shape = x.shape
    if not shape or shape[-1] != form.cols or not is_input(x):
        raise UnsupportedError(
            f"A packed weight of {form.rows}x{form.cols} needs a dense float input "
            f"[..., {form.cols}], not {x.dtype} of shape {tuple(shape)}."
        )
    check_operands(x, values, bias, form.rows)
