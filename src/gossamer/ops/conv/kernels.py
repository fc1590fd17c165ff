"""The kernels of conv2d, in the order in which they are tried, and the fallback behind them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass

from torch import Tensor

from gossamer.core.registry import Registration
from gossamer.ops.conv import reference, strips
from gossamer.ops.conv.window import Bounds, Window
from gossamer.ops.linear.form import Form, Parts, rebuild
from gossamer.ops.table import Table

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


KERNELS = Table("kernel of conv2d", (
    Kernel("strips", strips.LAYOUTS, strips.refusal, strips.convolution, strips.account),
))


def compute(
    x: Tensor, parts: Parts, bias: Tensor | None, form: Form, window: Window, bounds: Bounds
) -> Tensor:
    """The convolution by the first kernel that covers the input; no gradients."""
    for kernel in KERNELS.of(form.layout):
        if kernel.where(x, parts, form, window) is None:
            return kernel.run(x, parts, bias, form, window, bounds)
    KERNELS.count(form.layout, x, parts, form, window)
    return reference.conv2d(x, rebuild(parts, form), bias, window, bounds)


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
