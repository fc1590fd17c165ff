"""A packed matrix taken apart into what operators and kernels are called with."""

from __future__ import annotations

from typing import NamedTuple

from torch import Tensor

from gossamer.layout import Packed, layout_of

# The stored parts in the order of `Layout.parts` ("values" first), then the row starts where the
# layout has them.
Parts = tuple[Tensor, ...]


class Form(NamedTuple):
    """Layout and sizes of a packed matrix.

    ``sizes`` is what the row kernels take: rows, cols, values a row where rows are equally long,
    values in all, N and M of layout nm.
    """

    layout: str
    rows: int
    cols: int
    sizes: tuple[int, int, int, int, int, int]


def form_of(values: Tensor, layout: str, shape: tuple[int, int]) -> Form:
    """The form of the matrix whose values these are."""
    rows, cols = shape
    nnz = values.numel()
    equal = values.dim() > 1
    n = values.shape[2] if layout == "nm" else 0
    m = cols // values.shape[1] if layout == "nm" else 0
    return Form(layout, rows, cols, (rows, cols, nnz // rows if equal and rows else 0, nnz, n, m))


def parts_of(packed: Packed) -> Parts:
    """The parts of a packed matrix as kernels take them."""
    return packed.operands


def rebuild(parts: Parts, form: Form) -> Packed:
    """The Packed that `parts_of` took apart."""
    named = dict(zip(layout_of(form.layout).parts, parts))
    return Packed(form.layout, (form.rows, form.cols), named)
