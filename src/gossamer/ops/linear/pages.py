"""Large memory pages under the parts of big matrices."""

from __future__ import annotations

from gossamer import native
from gossamer.layout import Packed

_PAGE = 1 << 21  # bytes


def use_large_pages(packed: Packed) -> None:
    """Put the parts of a matrix on the CPU into pages of 2 MiB, where the system has them.

    The tensors stay where they are and as they are. Kernels follow several rows at once, each on a
    page of its own, so that small pages cost them up to a third of their speed.
    """
    if native.core is None:
        return
    for part in (*packed.parts.values(), packed.starts):
        if part is not None and part.device.type == "cpu" and part.nbytes >= _PAGE:
            native.core.use_large_pages(part.data_ptr(), part.nbytes)
