"""The compiled kernels of linear: what they cover, and how they are called."""

from __future__ import annotations

from types import ModuleType

import torch
from torch import Tensor

from gossamer import native
from gossamer.core import UnsupportedError
from gossamer.ops.linear.reference import result_dtype

_LAYOUTS = {"dense": 0, "bitmask": 1, "nm": 2, "csr": 3, "condensed": 4}
_FLOATS = (torch.float32, torch.bfloat16)

# Past this batch an expanded matrix and torch's own product are quicker.
MOST_INPUTS = 64

Parts = tuple[Tensor, Tensor | None, Tensor | None]


def refusal(x: Tensor, parts: Parts, layout: str) -> str | None:
    """Why no compiled kernel covers this input, None where one does; by metadata alone."""
    values = parts[0]
    if native.core is None:
        return "the compiled kernels are not installed"
    if not (x.is_cpu and values.is_cpu):
        return f"the compiled kernels run on the cpu, not on {x.device}"
    if x.dtype not in _FLOATS or values.dtype not in _FLOATS:
        return f"the compiled kernels take float32 and bfloat16, not {x.dtype} by {values.dtype}"
    if layout == "dense" and values.dtype == torch.float32:
        return "torch's own product of float32 is the quickest known"
    if not all(part is None or part.is_contiguous() for part in parts):
        return "a part is not contiguous"
    return None


def _core() -> ModuleType:
    """The compiled module; `refusal` has seen to it that it is there."""
    if native.core is None:
        raise UnsupportedError("The compiled kernels are not installed; install gossamer anew.")
    return native.core


def _matrix(parts: Parts, layout: str, shape: tuple[int, int]) -> tuple[object, ...]:
    """The arguments that say what matrix it is: layout, sizes, addresses, dtypes."""
    values, index, starts = parts
    rows, cols = shape
    nnz = values.numel()
    n, m = 0, 0
    if layout == "nm":
        n = values.shape[2]
        m = cols // values.shape[1]
    sizes = (rows, cols, nnz // rows if starts is None and rows else 0, nnz, n, m)
    addresses = (
        values.data_ptr(),
        0 if index is None else index.data_ptr(),
        0 if starts is None else starts.data_ptr(),
    )
    wide = index is not None and index.dtype == torch.int32
    return _LAYOUTS[layout], sizes, addresses, values.dtype == torch.bfloat16, wide


def multiply(
    x: Tensor, parts: Parts, bias: Tensor | None, layout: str, shape: tuple[int, int]
) -> Tensor:
    """``y = x W^T + b`` for x ``[batch, cols]``, batch at most MOST_INPUTS."""
    dtype = result_dtype(x, parts[0])
    batch = x.shape[0]
    y = torch.empty((batch, shape[0]), dtype=dtype)
    if batch == 0 or shape[0] == 0:
        return y
    if not x.is_contiguous():
        x = x.contiguous()
    if bias is not None and (bias.dtype not in _FLOATS or not bias.is_contiguous()):
        bias = bias.float().contiguous()
    half = torch.bfloat16
    _core().linear(
        *_matrix(parts, layout, shape), x.data_ptr(), x.dtype == half, batch,
        0 if bias is None else bias.data_ptr(), bias is not None and bias.dtype == half,
        y.data_ptr(), dtype == half, torch.get_num_threads(),
    )
    return y


def expand(parts: Parts, layout: str, shape: tuple[int, int], dtype: torch.dtype) -> Tensor:
    """The dense matrix ``[rows, cols]`` in float32, or in bfloat16 where the values are."""
    out = torch.empty(shape, dtype=dtype)
    if out.numel():
        _core().expand(
            *_matrix(parts, layout, shape), out.data_ptr(), dtype == torch.bfloat16,
            torch.get_num_threads(),
        )
    return out


def multiply_expanded(
    x: Tensor, parts: Parts, bias: Tensor | None, layout: str, shape: tuple[int, int]
) -> Tensor:
    """``y = x W^T + b`` by torch's product with the expanded matrix, for large batches."""
    dtype = result_dtype(x, parts[0])
    # Without instructions for it, torch's product of bfloat16 is several times slower than float32.
    slow_half = dtype == torch.bfloat16 and not _core().has_avx512_bf16()
    product = torch.float32 if slow_half else dtype
    y = torch.nn.functional.linear(
        x.to(product), expand(parts, layout, shape, product),
        None if bias is None else bias.to(product),
    )
    return y.to(dtype)
