"""csr: the kept values of each row with their columns; for very sparse matrices.

Parts: values ``[nnz]``; columns ``[nnz]``, uint16 where cols <= 65536, else int32, ascending in
each row; row_counts int32 ``[rows]``.
"""

from __future__ import annotations

import torch
from torch import Tensor

from gossamer.core import Support, SupportError
from gossamer.layout.packed import Layout, Packed, check_columns, column_dtype, expect, row_starts


def _pack(weight: Tensor, support: Support) -> dict[str, Tensor]:
    mask = support.mask().to(weight.device)
    return {
        "values": weight[mask],
        "columns": mask.nonzero()[:, 1].to(column_dtype(weight.shape[1])),
        "row_counts": mask.sum(1, dtype=torch.int32),
    }


def _positions(packed: Packed) -> Tensor:
    """int64 ``[nnz]``: place of every value in the flattened matrix."""
    rows, cols = packed.shape
    counts = packed.parts["row_counts"].long()
    row = torch.arange(rows, device=counts.device).repeat_interleave(counts)
    return row * cols + packed.parts["columns"].long()


def _unpack(packed: Packed) -> Tensor:
    rows, cols = packed.shape
    flat = packed.values.new_zeros(rows * cols)
    flat[_positions(packed)] = packed.values
    return flat.view(rows, cols)


def _support(packed: Packed) -> Support:
    rows, cols = packed.shape
    mask = torch.zeros(rows * cols, dtype=torch.bool, device=packed.device)
    mask[_positions(packed)] = True
    return Support.of(mask.view(rows, cols))


def _nbytes(support: Support, itemsize: int) -> int:
    rows, cols = support.shape
    return support.nnz * (itemsize + column_dtype(cols).itemsize) + 4 * rows


def _starts(packed: Packed) -> Tensor:
    return row_starts(packed.parts["row_counts"])


def _check(packed: Packed) -> None:
    rows, cols = packed.shape
    nnz = packed.values.numel()
    expect(packed, "values", None, (nnz,))
    expect(packed, "columns", column_dtype(cols), (nnz,))
    expect(packed, "row_counts", torch.int32, (rows,))
    counts = packed.parts["row_counts"]
    if counts.device.type == "meta":
        return
    total = int(counts.sum(dtype=torch.int64))
    if total != nnz or (rows and not 0 <= int(counts.min()) <= int(counts.max()) <= cols):
        raise SupportError(
            f"The row counts of a csr matrix add up to {total} for {nnz} values; "
            "the parts do not belong together."
        )
    check_columns(packed, row_starts(counts))


CSR = Layout(
    "csr", ("values", "columns", "row_counts"), _pack, _unpack, _support, _nbytes, _check, _starts
)
