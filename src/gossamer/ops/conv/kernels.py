"""The kernels of conv2d, in the order in which they are tried, and the fallback behind them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass

from torch import Tensor

from gossamer.core.registry import Registration, Registry
from gossamer.ops.conv import reference, strips
from gossamer.ops.conv.window import Bounds, Window
from gossamer.ops.linear.form import Form, Parts, rebuild

REFERENCE = "reference (unpack, then torch's dense convolution)"


@dataclass(frozen=True)
class Kernel:
    """One way to compute a convolution for some layouts.

    Args:
        name: its key among the kernels.
        layouts: names of the layouts that it reads.
        where: ``(x, parts, form, window)`` -> None where it covers this input, else why not; by
            metadata alone (shapes, dtypes, devices, strides), never by trying it.
        run: ``(x, parts, bias, form, window, bounds) -> y``, called where ``where`` gave None.
        account: ``(x, form, window) -> "what runs: why"``, for `explain`.
    """

    name: str
    layouts: tuple[str, ...]
    where: Callable[[Tensor, Parts, Form, Window], str | None]
    run: Callable[[Tensor, Parts, Tensor | None, Form, Window, Bounds], Tensor]
    account: Callable[[Tensor, Form, Window], str]


class Kernels:
    """An ordered registry of kernels, and a count of what none of them covered."""

    def __init__(self, kernels: tuple[Kernel, ...]) -> None:
        self._watching: tuple[Counter[str], ...] = ()
        self._by_layout: dict[str, tuple[Kernel, ...]] = {}
        self.all: Registry[Kernel] = Registry("kernel of conv2d", kernels, self._forget)

    def of(self, layout: str) -> tuple[Kernel, ...]:
        """The kernels that read this layout, in order."""
        if layout not in self._by_layout:
            self._by_layout[layout] = tuple(
                kernel for kernel in self.all.values() if layout in kernel.layouts)
        return self._by_layout[layout]

    def plan(
        self, x: Tensor, parts: Parts, form: Form, window: Window
    ) -> tuple[Kernel | None, str]:
        """``(kernel, why not the ones before it)``; None where the reference has to do."""
        reasons: list[str] = []
        for kernel in self.of(form.layout):
            refused = kernel.where(x, parts, form, window)
            if refused is None:
                return kernel, "; ".join(reasons)
            reasons.append(refused)
        return None, "; ".join(reasons) or f"there is no kernel for layout {form.layout}"

    def compute(
        self, x: Tensor, parts: Parts, bias: Tensor | None, form: Form, window: Window,
        bounds: Bounds,
    ) -> Tensor:
        """The convolution by the first kernel that covers the input; no gradients."""
        kernel, why = self.plan(x, parts, form, window)
        if kernel is not None:
            return kernel.run(x, parts, bias, form, window, bounds)
        for counter in self._watching:
            counter[f"{form.layout}: {why}"] += 1
        return reference.conv2d(x, rebuild(parts, form), bias, window, bounds)

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
    Kernel("strips", strips.LAYOUTS, strips.refusal, strips.convolution, strips.account),
))


def register(kernel: Kernel) -> Registration:
    """Add a kernel before those that are there, for good or inside ``with``.

    Raises:
        ConfigError: there is a kernel of this name.
    """
    return KERNELS.all.register(kernel, first=True)


def fallbacks() -> AbstractContextManager[Counter[str]]:
    """Counts, inside ``with``, the convolutions that no kernel covered.

    >>> import torch
    >>> from gossamer.layout import pack
    >>> from gossamer.ops import conv2d
    >>> with fallbacks() as seen:
    ...     y = conv2d(torch.ones(1, 4, 2, 2).half(), pack(torch.eye(4), layout="csr"))
    >>> sum(seen.values())
    1
    """
    return KERNELS.watch()
