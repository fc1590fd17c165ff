"""fallbacks: what ran without a kernel, in all ops together."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager

from gossamer.ops.conv.kernels import KERNELS as CONVOLUTIONS
from gossamer.ops.linear.kernels import KERNELS as PRODUCTS


@contextmanager
def fallbacks() -> Iterator[Counter[str]]:
    """Counts, inside ``with``, the products and convolutions that no kernel covered.

    >>> import torch
    >>> from gossamer.layout import pack
    >>> from gossamer.ops import conv2d, linear
    >>> with fallbacks() as seen:
    ...     y = linear(torch.ones(1, 4).half(), pack(torch.eye(4), layout="csr"))
    ...     z = conv2d(torch.ones(1, 4, 1, 1), pack(torch.eye(4), layout="csr"))
    >>> sum(seen.values())
    1
    """
    counter: Counter[str] = Counter()
    with PRODUCTS.watch(counter), CONVOLUTIONS.watch(counter):
        yield counter
