"""The kernels of linear, in the order in which they are tried, and the fallback behind them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass

from torch import Tensor

from gossamer.core.registry import Registration
from gossamer.ops.linear import (
    ablated,
    block,
    codes,
    cpu,
    gpu,
    gpu_blocks,
    grouped,
    panel,
    reference,
)
from gossamer.ops.linear.form import Form, Parts, rebuild
from gossamer.ops.table import Table

REFERENCE = "reference (unpack, then a dense product)"


@dataclass(frozen=True)
class Gradients:
    """How a kernel computes what backpropagation asks for.

    Args:
        where: ``(tensor, parts, form)`` -> None where it covers this gradient of y, or this x, else
            why not; by metadata alone.
        x: ``(grad, parts, form) -> grad W``; grad is ``[..., rows]``, contiguous.
        values: ``(grad, x, parts, form) ->`` the entries of ``grad^T x`` at the kept places,
            shaped and typed as the values.
    """

    where: Callable[[Tensor, Parts, Form], str | None]
    x: Callable[[Tensor, Parts, Form], Tensor]
    values: Callable[[Tensor, Tensor, Parts, Form], Tensor]


@dataclass(frozen=True)
class Kernel:
    """One way to compute ``y = x W^T + b`` for some layouts.

    Args:
        name: its key among the kernels.
        layouts: names of the layouts that it reads.
        where: ``(x, parts, form)`` -> None where it covers this input, else why not; by metadata
            alone (shapes, dtypes, devices, strides), never by trying it.
        run: ``(x, parts, bias, form) -> y``, called where ``where`` gave None. x is
            ``[..., cols]``, y ``[..., rows]`` in the wider dtype of x and values.
        account: ``(x, form) -> "what runs: why"``, for `explain`; None says the name.
        gradients: how it goes back; None leaves that to the reference.
    """

    name: str
    layouts: tuple[str, ...]
    where: Callable[[Tensor, Parts, Form], str | None]
    run: Callable[[Tensor, Parts, Tensor | None, Form], Tensor]
    account: Callable[[Tensor, Form], str] | None = None
    gradients: Gradients | None = None


KERNELS = Table("kernel of linear", (
    Kernel("cpu, few", cpu.LAYOUTS, cpu.refusal_of_few, cpu.product, cpu.account),
    Kernel("panel", panel.LAYOUTS, panel.refusal, panel.product, panel.account),
    Kernel("cpu", cpu.LAYOUTS, cpu.refusal, cpu.product, cpu.account),
    Kernel("codes", codes.LAYOUTS, codes.refusal, codes.product, codes.account),
    Kernel("grouped", grouped.LAYOUTS, grouped.refusal, grouped.product, grouped.account),
    Kernel("block", block.LAYOUTS, block.refusal, block.product, block.account),
    Kernel("ablated", ablated.LAYOUTS, ablated.refusal, ablated.product, ablated.account),
    Kernel("gpu", gpu.LAYOUTS, gpu.refusal, gpu.product, gpu.account),
    Kernel("gpu, many", ("nm",), gpu.refusal_of_many, gpu.product_of_many, gpu.account_of_many),
    Kernel("gpu blocks", gpu_blocks.LAYOUTS, gpu_blocks.refusal, gpu_blocks.product,
           gpu_blocks.account,
           Gradients(gpu_blocks.refusal, gpu_blocks.grad_x, gpu_blocks.grad_values)),
))


def compute(x: Tensor, parts: Parts, bias: Tensor | None, form: Form) -> Tensor:
    """``y = x W^T + b`` by the first kernel that covers the input; no gradients."""
    for kernel in KERNELS.of(form.layout):
        if kernel.where(x, parts, form) is None:
            return kernel.run(x, parts, bias, form)
    KERNELS.count(form.layout, x, parts, form)
    return reference.linear(x, rebuild(parts, form), bias)


def grad_x(grad: Tensor, parts: Parts, form: Form) -> Tensor:
    """``dL/dx = grad W`` for grad ``[..., rows]``, by the first kernel that covers it."""
    for kernel in KERNELS.of(form.layout):
        back = kernel.gradients
        if back is not None and back.where(grad, parts, form) is None:
            return back.x(grad, parts, form)
    return reference.grad_x(grad, rebuild(parts, form))


def grad_values(grad: Tensor, x: Tensor, parts: Parts, form: Form) -> Tensor:
    """``dL/dvalues``, shaped as the values, by the first kernel that covers grad and x."""
    for kernel in KERNELS.of(form.layout):
        back = kernel.gradients
        if back is not None and back.where(grad, parts, form) is None and (
            back.where(x, parts, form) is None
        ):
            return back.values(grad, x, parts, form)
    return reference.grad_values(grad, x, rebuild(parts, form))


def register(kernel: Kernel) -> Registration:
    """Add a kernel before those that are there, for good or inside ``with``.

    Raises:
        ConfigError: there is a kernel of this name.

    >>> import torch
    >>> from gossamer.layout import pack
    >>> from gossamer.ops import explain
    >>> def where(x, parts, form):
    ...     return None if x.dtype == torch.float64 else "it takes float64"
    >>> def run(x, parts, bias, form):
    ...     y = x @ parts[0].t().double()
    ...     return y if bias is None else y + bias
    >>> with register(Kernel("double", ("dense",), where, run)):
    ...     explain(torch.ones(1, 4, dtype=torch.float64), pack(torch.eye(4), layout="dense"))
    'double for dense: it covers this input'
    """
    return KERNELS.all.register(kernel, first=True)


def fallbacks() -> AbstractContextManager[Counter[str]]:
    """Counts, inside ``with``, the products that no kernel covered: ``{"layout: why": times}``.

    >>> import torch
    >>> from gossamer.layout import pack
    >>> from gossamer.ops import linear
    >>> with fallbacks() as seen:
    ...     y = linear(torch.ones(1, 4).half(), pack(torch.eye(4), layout="csr"))
    >>> sum(seen.values())
    1
    """
    return KERNELS.watch()
