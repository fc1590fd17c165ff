"""linear and explain: check the input, then the operator."""

from __future__ import annotations

from torch import Tensor

from gossamer.core import UnsupportedError
from gossamer.layout import Packed
from gossamer.ops.linear.op import INDEX, packed_linear


def linear(x: Tensor, packed: Packed, bias: Tensor | None = None) -> Tensor:
    """``y = x W^T + b`` with W packed, in the wider dtype of x and values.

    Args:
        x: ``[..., cols]``, any float dtype; on the device of the parts.
        packed: the weight ``[rows, cols]``.
        bias: ``[rows]``, or None.

    Returns:
        ``[..., rows]``.

    Raises:
        UnsupportedError: x does not fit the weight.
    """
    check_input(x, packed.shape, bias)
    name = INDEX[packed.layout]
    index = None if name is None else packed.parts[name]
    return run(x, (packed.values, index, packed.starts), bias, packed.layout, packed.shape)


def run(
    x: Tensor,
    tensors: tuple[Tensor, Tensor | None, Tensor | None],
    bias: Tensor | None,
    layout: str,
    shape: tuple[int, int],
) -> Tensor:
    """`linear` on checked input; tensors are values, index and row starts."""
    rows, cols = shape
    values, index, starts = tensors
    y: Tensor = packed_linear(x.reshape(-1, cols), values, index, starts, bias, layout, [rows, cols])
    return y.view(*x.shape[:-1], rows)


def explain(x: Tensor, packed: Packed) -> str:
    """Which kernel `linear` runs for this input, and why."""
    check_input(x, packed.shape, None)
    return "reference: no compiled kernel covers this input"


def check_input(x: Tensor, shape: tuple[int, int], bias: Tensor | None) -> None:
    """Raise UnsupportedError where x or the bias does not fit a weight of this shape."""
    rows, cols = shape
    if x.dim() == 0 or x.shape[-1] != cols or not x.is_floating_point():
        raise UnsupportedError(
            f"A packed weight of shape {shape} needs a float input [..., {cols}], "
            f"not {x.dtype} of shape {tuple(x.shape)}."
        )
    if bias is not None and tuple(bias.shape) != (rows,):
        raise UnsupportedError(
            f"A packed weight of shape {shape} needs a bias of shape ({rows},), "
            f"not {tuple(bias.shape)}."
        )
