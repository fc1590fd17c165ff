"""The GPU kernels of linear: what they cover, and how the work is shared out."""

from __future__ import annotations

import functools
import importlib.util

import torch
from torch import Tensor

from gossamer.layout.tiled import longest_stream
from gossamer.ops.linear.form import Form, Parts
from gossamer.ops.linear.reference import result_dtype, without_autocast

# bitmask only to say what to use in its place.
LAYOUTS = ("nm", "tiled", "bitmask")

# Past this many inputs a product is bound by arithmetic, and the packed bytes gain little.
MOST_INPUTS = 16

# Past this many inputs x is first brought into the order in which it is read.
_UNARRANGED = 4

# Columns that a warp takes at a time.
_STEP = {"nm": 256, "tiled": 512}

# Warps of layout nm that keep the device busy; where each takes 32 rows it holds more in flight.
_ENOUGH, _ENOUGH_TALL = 1100, 700

# Rows of one matrix that the expansion of layout nm takes.
_MOST_ROWS = (1 << 16) - 1

# Words of the longest stream up to which two warps' fit into the shared memory of a program.
_TWO_FIT = 95

_HALVES = (torch.bfloat16, torch.float16)


@functools.cache
def _has_triton() -> bool:
    return importlib.util.find_spec("triton") is not None


def in_autocast(x: Tensor, parts: Parts) -> tuple[Tensor, Parts]:
    """x and float values in autocast's dtype where it is on; float64 stays, as in torch."""
    values = parts[0]
    if not torch.is_autocast_enabled("cuda") or torch.float64 in (x.dtype, values.dtype):
        return x, parts
    dtype = torch.get_autocast_dtype("cuda")
    cast = values.to(dtype) if values.is_floating_point() else values
    return x.to(dtype), (cast, *parts[1:])


def device_refusal(x: Tensor, values: Tensor) -> str | None:
    """Why no GPU kernel runs where these lie, None where one does."""
    if not (x.is_cuda and values.is_cuda):
        return f"the GPU kernels run on cuda, not on {x.device}"
    if not _has_triton():
        return "the GPU kernels need triton, which is not installed"
    if torch.version.hip is not None or torch.cuda.get_device_capability(x.device) < (8, 0):
        return "the GPU kernels need an NVIDIA GPU of compute capability 8.0 or later"
    return None


def refusal(x: Tensor, parts: Parts, form: Form) -> str | None:
    """Why no GPU kernel covers this input, None where one does; by metadata alone."""
    values = parts[0]
    if form.layout == "bitmask" and x.is_cuda:
        return "layout bitmask has no GPU kernel; pack the matrix as tiled for one"
    refused = device_refusal(x, values)
    if refused is not None:
        return refused
    if x.dtype not in _HALVES or x.dtype is not values.dtype:
        return f"the GPU kernels take bfloat16 or float16, not {x.dtype} by {values.dtype}"
    if form.layout == "nm" and form.sizes[4:] != (2, 4):
        return f"the GPU kernel of nm takes 2:4, not {form.sizes[4]}:{form.sizes[5]}"
    if form.cols % _STEP[form.layout] or form.cols == 0:
        return (f"the GPU kernel of {form.layout} takes multiples of {_STEP[form.layout]} columns, "
                f"not {form.cols}")
    batch = x.numel() // form.cols
    if not 1 <= batch <= MOST_INPUTS or form.rows == 0:
        return f"the GPU kernels take 1 to {MOST_INPUTS} inputs, not {batch}"
    for part in parts:
        if not part.is_contiguous() or part.data_ptr() % 16:
            return "a part is not contiguous, or does not begin at a multiple of 16 bytes"
    return None


def refusal_of_many(x: Tensor, parts: Parts, form: Form) -> str | None:
    """Why a 2:4 matrix is not expanded for a dense product on the GPU; None where it is."""
    refused = device_refusal(x, parts[0])
    if refused is not None:
        return refused
    if form.sizes[4:] != (2, 4):
        return f"the GPU kernel of nm takes 2:4, not {form.sizes[4]}:{form.sizes[5]}"
    if not 0 < form.rows <= _MOST_ROWS or form.cols == 0:
        return f"the GPU expansion of nm takes 1 to {_MOST_ROWS} rows, not {form.rows}"
    if not all(part.is_contiguous() for part in parts):
        return "a part is not contiguous"
    return None


def account_of_many(x: Tensor, form: Form) -> str:
    """What runs, and why."""
    return (f"GPU expansion of {form.layout}, then torch's dense product: "
            f"{x.numel() // form.cols} inputs, or a form that the kernel of few does not take")


def product_of_many(x: Tensor, parts: Parts, bias: Tensor | None, form: Form) -> Tensor:
    """``y = x W^T + b`` for x ``[..., cols]`` by a dense matrix that is made for it."""
    from gossamer.ops.linear import triton_nm

    with torch.cuda.device(x.device):
        dense = triton_nm.expand(parts[0], parts[1], form.cols)
    dtype = result_dtype(x, dense)
    with without_autocast(x.device):
        y = torch.nn.functional.linear(x.to(dtype), dense.to(dtype))
    return y if bias is None else y.add_(bias.to(dtype))


def account(x: Tensor, form: Form) -> str:
    """Which kernel runs, and why."""
    batch = x.numel() // form.cols
    how = "sparse tensor cores on" if form.layout == "nm" else "tensor cores on"
    return (f"GPU kernel for {form.layout}, {how} the packed bytes: {batch} inputs are at most "
            f"{MOST_INPUTS}")


def words_of(parts: Parts, form: Form) -> int:
    """A bound, rounded up so that few kernels are compiled, of the words of a tile's streams."""
    return 0 if form.layout == "nm" else -(-longest_stream(parts[2], parts[1]) // 12) * 12


def _tall_warps(form: Form) -> int:
    warps = 2
    while warps < 8 and -(-form.rows // 32) * warps < _ENOUGH_TALL:
        warps *= 2
    return warps


def is_tall(form: Form, batch: int) -> bool:
    """Whether a warp of layout nm takes 32 rows, so that x is read half as often, not 16.

    From nine inputs on what is read of x weighs more than a warp's turns, unless they are few.
    """
    return batch > 8 and form.cols // (_STEP["nm"] * _tall_warps(form)) >= 4


def shares(form: Form, words: int, batch: int) -> tuple[int, int]:
    """Warps of a program, and programs, that share the columns of 16 rows.

    The quickest, or nearly, of those measured on an H200 for matrices from 4096 to 28672 a side
    (`benchmarks/linear_gpu.py --sweep`); fewer where the columns cannot be shared out evenly.
    ``words`` is that of `words_of`.
    """
    blocks, warps, split = form.cols // _STEP[form.layout], 2, 1
    if form.layout == "nm":
        warps = _tall_warps(form) if is_tall(form, batch) else warps
        while not is_tall(form, batch) and warps < 8 and -(-form.rows // 16) * warps < _ENOUGH:
            warps *= 2
    elif batch <= 8 or words > _TWO_FIT:
        warps, split = 1, 4
    else:
        split = 2
    while blocks % (warps * split):
        warps, split = (warps, split // 2) if split > 1 else (warps // 2, split)
    return warps, split


def product(x: Tensor, parts: Parts, bias: Tensor | None, form: Form) -> Tensor:
    """``y = x W^T + b`` for x ``[..., cols]``."""
    flat = x.reshape(-1, form.cols).contiguous()
    if flat.data_ptr() % 16:
        flat = flat.clone()
    arranged = flat.shape[0] > _UNARRANGED
    if bias is not None:
        bias = bias.contiguous()
    words = words_of(parts, form)
    shared = shares(form, words, flat.shape[0])
    with torch.cuda.device(x.device):
        if form.layout == "nm":
            from gossamer.ops.linear import triton_nm

            early = torch.cuda.get_device_capability(x.device) >= (9, 0)
            y = triton_nm.multiply(flat, parts[0], parts[1], bias, form.rows, shared, arranged,
                                   is_tall(form, flat.shape[0]), early)
        else:
            from gossamer.ops.linear import triton_tiled

            y = triton_tiled.multiply(flat, parts, bias, form.rows, words, shared, arranged)
    return y.view(*x.shape[:-1], form.rows)
