"""The kernels of linear, in the order in which they are tried, and the fallback behind them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass

from torch import Tensor

from gossamer.core.registry import Registration, Registry
from gossamer.ops.linear import ablated, block, cpu, gpu, grouped, panel, reference
from gossamer.ops.linear.form import Form, Parts, rebuild

REFERENCE = "reference (unpack, then a dense product)"


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
    """

    name: str
    layouts: tuple[str, ...]
    where: Callable[[Tensor, Parts, Form], str | None]
    run: Callable[[Tensor, Parts, Tensor | None, Form], Tensor]
    account: Callable[[Tensor, Form], str] | None = None


class Kernels:
    """An ordered registry of kernels, and a count of the products that none of them covered."""

    def __init__(self, kernels: tuple[Kernel, ...]) -> None:
        self._by_layout: dict[str, tuple[Kernel, ...]] = {}
        self._watching: tuple[Counter[str], ...] = ()
        self.all: Registry[Kernel] = Registry("kernel of linear", kernels, self._forget)

    def of(self, layout: str) -> tuple[Kernel, ...]:
        """The kernels that read this layout, in order."""
        found = self._by_layout.get(layout)
        if found is None:
            found = tuple(kernel for kernel in self.all.values() if layout in kernel.layouts)
            self._by_layout[layout] = found
        return found

    def plan(self, x: Tensor, parts: Parts, form: Form) -> tuple[Kernel | None, str]:
        """``(kernel, why not the ones before it)``; None where the reference has to do."""
        reasons: list[str] = []
        for kernel in self.of(form.layout):
            refused = kernel.where(x, parts, form)
            if refused is None:
                return kernel, "; ".join(reasons)
            if refused not in reasons:
                reasons.append(refused)
        return None, "; ".join(reasons) or f"there is no kernel for layout {form.layout}"

    def compute(self, x: Tensor, parts: Parts, bias: Tensor | None, form: Form) -> Tensor:
        """``y = x W^T + b`` by the first kernel that covers the input; no gradients."""
        for kernel in self._by_layout.get(form.layout) or self.of(form.layout):
            if kernel.where(x, parts, form) is None:
                return kernel.run(x, parts, bias, form)
        for counter in self._watching:
            counter[f"{form.layout}: {self.plan(x, parts, form)[1]}"] += 1
        return reference.linear(x, rebuild(parts, form), bias)

    @contextmanager
    def watch(self) -> Iterator[Counter[str]]:
        """See `fallbacks`."""
        counter: Counter[str] = Counter()
        self._watching = (*self._watching, counter)
        try:
            yield counter
        finally:
            self._watching = tuple(known for known in self._watching if known is not counter)

    def _forget(self) -> None:
        self._by_layout = {}


KERNELS = Kernels((
    Kernel("cpu, few", cpu.LAYOUTS, cpu.refusal_of_few, cpu.product, cpu.account),
    Kernel("panel", panel.LAYOUTS, panel.refusal, panel.product, panel.account),
    Kernel("cpu", cpu.LAYOUTS, cpu.refusal, cpu.product, cpu.account),
    Kernel("grouped", grouped.LAYOUTS, grouped.refusal, grouped.product, grouped.account),
    Kernel("block", block.LAYOUTS, block.refusal, block.product, block.account),
    Kernel("ablated", ablated.LAYOUTS, ablated.refusal, ablated.product, ablated.account),
    Kernel("gpu", gpu.LAYOUTS, gpu.refusal, gpu.product, gpu.account),
))


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
