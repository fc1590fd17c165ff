"""Layout ablated by the kernels of condensed: active rows computed, then put in their places."""

from __future__ import annotations

from torch import Tensor

from gossamer.ops.linear import cpu, panel
from gossamer.ops.linear.form import Form, Parts, form_of
from gossamer.ops.linear.reference import result_dtype

LAYOUTS = ("ablated",)


def _condensed(parts: Parts, form: Form) -> tuple[Parts, Form]:
    """The active rows as a matrix of their own."""
    return parts[:2], form_of(parts[0], "condensed", (parts[0].shape[0], form.cols))


def refusal(x: Tensor, parts: Parts, form: Form) -> str | None:
    """Why the compiled kernels do not cover this input, None where they do."""
    some, inner = _condensed(parts, form)
    return cpu.refusal(x, some, inner)


def account(x: Tensor, form: Form) -> str:
    """What runs, and why."""
    inner = form._replace(layout="condensed")
    return cpu.account(x, inner).replace("condensed", "the active rows of ablated")


def product(x: Tensor, parts: Parts, bias: Tensor | None, form: Form) -> Tensor:
    """``y = x W^T + b`` for x ``[..., cols]``."""
    some, inner = _condensed(parts, form)
    run = cpu.product if panel.refusal(x, some, inner) is not None else panel.product
    dtype, active = result_dtype(x, parts[0]), parts[2].long()
    y = x.new_zeros((*x.shape[:-1], form.rows), dtype=dtype)
    if bias is not None:
        y += bias
        bias = bias[active]
    return y.index_copy_(-1, active, run(x, some, bias, inner))
