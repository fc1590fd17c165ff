"""The compiled kernels of linear: what they cover, and how they are called."""

from __future__ import annotations

from collections.abc import Callable
from types import ModuleType

import torch
from torch import Tensor

from gossamer import native
from gossamer.core import UnsupportedError
from gossamer.ops.linear.form import Form, Parts
from gossamer.ops.linear.reference import result_dtype, without_autocast

# Of each layout: its code, and the places of its index and its row starts among the parts.
_PLACES = {
    "dense": (0, None, None), "bitmask": (1, 1, 2), "nm": (2, 1, None), "csr": (3, 1, 3),
    "condensed": (4, 1, None),
}
LAYOUTS = tuple(_PLACES)
FLOATS = (_FLOAT, _HALF) = (torch.float32, torch.bfloat16)

# From this many inputs on panels may be quicker than rows.
FEW = 8

# Past this many inputs an expanded matrix and torch's own product are quicker.
MOST_INPUTS = 64

# Weights of a matrix that are expanded at a time; they stay in the last-level cache.
_BLOCK = 1 << 20


def refusal(x: Tensor, parts: Parts, form: Form) -> str | None:
    """Why no compiled kernel covers this input, None where one does; by metadata alone."""
    values = parts[0]
    if native.core is None:
        return "the compiled kernels are not installed"
    if not (x.is_cpu and values.is_cpu):
        return f"the compiled kernels run on the cpu, not on {x.device}"
    taken, stored = x.dtype, values.dtype
    if (taken is not _FLOAT and taken is not _HALF) or (
        stored is not _HALF and stored is not _FLOAT
    ):
        return f"the compiled kernels take float32 and bfloat16, not {taken} by {stored}"
    if form.layout == "dense" and stored is _FLOAT:
        return "torch's own product of float32 is the quickest known"
    for part in parts:
        if not part.is_contiguous():
            return "a part is not contiguous"
    return None


def refusal_of_few(x: Tensor, parts: Parts, form: Form) -> str | None:
    """`refusal`, and more than a few inputs: those are weighed up by the kernels behind this one.

    It stands first, so that a small product does not wait for that.
    """
    if x.numel() >= FEW * form.cols:
        return f"{FEW} inputs and more may have quicker ways"
    return refusal(x, parts, form)


def account(x: Tensor, form: Form) -> str:
    """Which of the two ways `product` goes, and why."""
    batch = x.numel() // max(1, form.cols)
    if batch <= MOST_INPUTS:
        return f"{native.isa()} kernel for {form.layout}: {batch} inputs are at most {MOST_INPUTS}"
    return (
        f"{native.isa()} expansion of {form.layout}, then torch's dense product: {batch} inputs "
        f"are over {MOST_INPUTS}, where that is quicker"
    )


def product(x: Tensor, parts: Parts, bias: Tensor | None, form: Form) -> Tensor:
    """``y = x W^T + b`` for x ``[..., cols]``."""
    if x.numel() <= MOST_INPUTS * form.cols:
        return multiply(x, parts, bias, form)
    return multiply_expanded(x, parts, bias, form)


def core() -> ModuleType:
    """The compiled module; `refusal` has seen to it that it is there."""
    if native.core is None:
        raise UnsupportedError("The compiled kernels are not installed; install gossamer anew.")
    return native.core


def matrix_arguments(
    parts: Parts, form: Form
) -> tuple[int, tuple[int, ...], tuple[int, int, int], bool, bool]:
    """What kernels that take a matrix are called with first."""
    code, place, last = _PLACES[form.layout]
    values = parts[0]
    index = None if place is None else parts[place]
    addresses = (
        values.data_ptr(), 0 if index is None else index.data_ptr(),
        0 if last is None else parts[last].data_ptr(),
    )
    wide = index is not None and index.dtype is torch.int32
    return code, form.sizes, addresses, values.dtype is _HALF, wide


def multiply(x: Tensor, parts: Parts, bias: Tensor | None, form: Form) -> Tensor:
    """``y = x W^T + b`` for x ``[..., cols]`` of at most MOST_INPUTS inputs."""
    code, sizes, addresses, half, wide = matrix_arguments(parts, form)
    x_half = x.dtype is _HALF
    shape = (*x.shape[:-1], form.rows)
    y = x.new_empty(shape) if half or not x_half else x.new_empty(shape, dtype=_FLOAT)
    if y.numel() == 0:
        return y
    if not x.is_contiguous():
        x = x.contiguous()
    if bias is not None and (bias.dtype not in FLOATS or not bias.is_contiguous()):
        bias = bias.float().contiguous()
    core().linear(
        code, sizes, addresses, half, wide, x.data_ptr(), x_half, y.numel() // form.rows,
        0 if bias is None else bias.data_ptr(), bias is not None and bias.dtype is _HALF,
        y.data_ptr(), x_half and half, torch.get_num_threads(),
    )
    return y


def expand_rows(parts: Parts, form: Form, first: int, out: Tensor) -> None:
    """Fill ``out [count, cols]`` with the dense rows from ``first`` on.

    Its dtype is float32, or bfloat16 where the values are.
    """
    if out.numel():
        core().expand(
            *matrix_arguments(parts, form), first, out.shape[0], out.data_ptr(), out.dtype is _HALF,
            torch.get_num_threads(),
        )


def multiply_expanded(x: Tensor, parts: Parts, bias: Tensor | None, form: Form) -> Tensor:
    """``y = x W^T + b`` by torch's product with expanded blocks of rows, for large batches."""
    return multiply_blocks(x, bias, form, result_dtype(x, parts[0]),
                           lambda first, out: expand_rows(parts, form, first, out))


def multiply_blocks(
    x: Tensor, bias: Tensor | None, form: Form, dtype: torch.dtype,
    expand: Callable[[int, Tensor], None],
) -> Tensor:
    """``y = x W^T + b`` in this dtype, by torch's product with blocks of rows.

    ``expand(first, out)`` fills ``out [count, cols]`` with the dense rows from ``first`` on.
    """
    # Without instructions for it, torch's product of bfloat16 is several times slower than float32.
    product = _FLOAT if dtype is _HALF and not core().has_avx512_bf16() else dtype
    given = x.to(product)
    y = given.new_empty((*x.shape[:-1], form.rows))
    height = max(64, _BLOCK // max(1, form.cols))
    block = given.new_empty((min(height, form.rows), form.cols))
    for first in range(0, form.rows, height):
        some = block[: form.rows - first]
        expand(first, some)
        with without_autocast(x.device):
            y[..., first : first + height] = given @ some.t()
    return (y if bias is None else y.add_(bias)).to(dtype)
