"""A packed matrix taken apart into what operators and kernels are called with."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from gossamer.layout import Packed

# The part of each layout that says where the values lie.
INDEX = {"dense": None, "bitmask": "bits", "nm": "index", "csr": "columns", "condensed": "columns"}

# values, index, row starts
Parts = tuple[Tensor, Tensor | None, Tensor | None]


class Form(NamedTuple):
    """Layout and sizes of a packed matrix.

    ``sizes`` is what kernels take: rows, cols, values a row where rows are equally long, values
    in all, N and M of layout nm.
    """

    layout: str
    rows: int
    cols: int
    sizes: tuple[int, int, int, int, int, int]


def form_of(values: Tensor, layout: str, shape: tuple[int, int]) -> Form:
    """The form of the matrix whose values these are."""
    rows, cols = shape
    nnz = values.numel()
    equal = layout not in ("bitmask", "csr")
    n = values.shape[2] if layout == "nm" else 0
    m = cols // values.shape[1] if layout == "nm" else 0
    return Form(layout, rows, cols, (rows, cols, nnz // rows if equal and rows else 0, nnz, n, m))


def parts_of(packed: Packed) -> Parts:
    """Values, index and row starts of a packed matrix."""
    name = INDEX[packed.layout]
    return packed.values, None if name is None else packed.parts[name], packed.starts


def rebuild(parts: Parts, form: Form) -> Packed:
    """The Packed that `parts_of` took apart."""
    values, index, starts = parts
    named = {"values": values}
    name = INDEX[form.layout]
    if name is not None and index is not None:
        named[name] = index
    if form.layout == "csr" and starts is not None:
        named["row_counts"] = starts.diff().to(torch.int32)
    return Packed(form.layout, (form.rows, form.cols), named)
