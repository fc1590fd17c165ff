"""The compiled kernels for weights on a grid: codes of 8 or 4 bits with scales."""

from __future__ import annotations

import torch
from torch import Tensor

from gossamer import native
from gossamer.ops.linear import cpu
from gossamer.ops.linear.form import Form, Parts

# Of each layout: the code of the layout beneath, the bits of a value, the place of its row starts.
_KINDS = {
    "bitmask_int8": (1, 8, 4), "bitmask_int4": (1, 4, 4), "nm_int8": (2, 8, None),
    "nm_int4": (2, 4, None),
}
LAYOUTS = tuple(_KINDS)


def refusal(x: Tensor, parts: Parts, form: Form) -> str | None:
    """Why no compiled kernel covers this input, None where one does; by metadata alone."""
    if native.core is None:
        return "the compiled kernels are not installed"
    if not (x.is_cpu and parts[0].is_cpu):
        return f"the compiled kernels run on the cpu, not on {x.device}"
    if x.dtype not in cpu.FLOATS:
        return f"the compiled kernels take float32 and bfloat16, not {x.dtype}"
    if not all(part.is_contiguous() for part in parts):
        return "a part is not contiguous"
    return None


def account(x: Tensor, form: Form) -> str:
    """Which of the two ways `product` goes, and why."""
    return cpu.account(x, form)


def product(x: Tensor, parts: Parts, bias: Tensor | None, form: Form) -> Tensor:
    """``y = x W^T + b`` for x ``[..., cols]``, in the dtype of x."""
    if x.numel() > cpu.MOST_INPUTS * form.cols:
        return cpu.multiply_blocks(
            x, bias, form, x.dtype, lambda first, out: _expand(parts, form, first, out))
    y = x.new_empty((*x.shape[:-1], form.rows))
    if y.numel() == 0:
        return y
    x = x.contiguous()
    if bias is not None and (bias.dtype not in cpu.FLOATS or not bias.is_contiguous()):
        bias = bias.float().contiguous()
    cpu.core().grid_linear(
        *_matrix(parts, form), x.data_ptr(), x.dtype is torch.bfloat16, y.numel() // form.rows,
        0 if bias is None else bias.data_ptr(),
        bias is not None and bias.dtype is torch.bfloat16, y.data_ptr(), torch.get_num_threads(),
    )
    return y


def _expand(parts: Parts, form: Form, first: int, out: Tensor) -> None:
    """Fill ``out [count, cols]`` with the dense rows from ``first`` on, rounded to its dtype."""
    if out.numel() == 0:
        return
    whole = out if out.dtype is torch.float32 else torch.empty_like(out, dtype=torch.float32)
    cpu.core().grid_expand(
        *_matrix(parts, form), first, out.shape[0], whole.data_ptr(), torch.get_num_threads())
    if whole is not out:
        out.copy_(whole)


def _matrix(
    parts: Parts, form: Form
) -> tuple[int, tuple[int, ...], tuple[int, int, int], tuple[int, int, int, int]]:
    """What the kernels take first: layout, sizes, parts and grid."""
    code, bits, last = _KINDS[form.layout]
    values, index, scales, zeros = parts[:4]
    count = values.numel() * 8 // bits  # codes, of which the last may be there for its byte alone
    n = m = kept = 0
    if last is None:
        n, m = values.shape[2] * 8 // bits, form.cols // max(1, values.shape[1])
        kept = values.shape[1] * n
    starts = 0 if last is None else parts[last].data_ptr()
    return (
        code, (form.rows, form.cols, kept, count, n, m),
        (values.data_ptr(), index.data_ptr(), starts),
        (scales.data_ptr(), zeros.data_ptr(), scales.shape[1], bits),
    )
