"""Costs of the kernels of this CPU, from products whose matrices stay in the cache."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator

import torch
from torch import Tensor

from gossamer import native
from gossamer.core import Keep, Support, nm, rows, select, unstructured
from gossamer.layout import Packed, pack
from gossamer.measure.hardware.kernels import Kernel, Sample, fit
from gossamer.ops import linear

_SHAPE = (1024, 1024)  # 2 to 4 MB: in the last-level cache, past the one before it
_SMALL = (64, 64)
_BATCHES = (1, 4, 16, 64, 128)
_DENSITIES = (0.5, 0.2, 0.05)
_NM = ((2, 4), (4, 32), (2, 32))
_DTYPES = (torch.float32, torch.bfloat16)
_AT_LEAST, _SECONDS = 5, 0.01  # repeats, and the time that is spent on more of them


def least_seconds(call: Callable[[], object]) -> float:
    """The least time of several calls; CPU time where torch uses one thread, else wall time.

    The CPU time of one thread is what other programs disturb least.
    """
    clock = time.process_time if torch.get_num_threads() == 1 else time.perf_counter
    call()
    least, spent, turn = float("inf"), 0.0, 0
    while turn < _AT_LEAST or spent < _SECONDS:
        begun = clock()
        call()
        took = clock() - begun
        least, spent, turn = min(least, took), spent + max(took, 1e-7), turn + 1
    return max(least, 1e-9)


def calibrate() -> tuple[Kernel, ...]:
    """Fitted costs of every layout's kernel and of torch's product, in float32 and bfloat16."""
    found = []
    for dtype in _DTYPES:
        name = str(dtype).removeprefix("torch.")
        found.append(fit("torch", name, "unstructured", list(_dense_samples(dtype))))
        if native.core is None:
            continue
        if dtype is torch.bfloat16:  # torch computes the dense layout of float32
            found.append(fit("dense", name, "unstructured", list(_samples("dense", dtype, [
                Support.full(*_SHAPE), Support.full(*_SMALL)]))))
        for layout, pattern in (("bitmask", unstructured()), ("csr", unstructured()),
                                ("condensed", rows())):
            supports = [_support(_SHAPE, pattern, share) for share in _DENSITIES]
            supports.append(_support(_SMALL, pattern, 0.5))
            found.append(fit(layout, name, str(pattern), list(_samples(layout, dtype, supports))))
        for n, m in _NM:
            supports = [select(torch.rand(shape), nm(n, m)) for shape in (_SHAPE, _SMALL)]
            found.append(fit("nm", name, f"{n}:{m}", list(_samples("nm", dtype, supports))))
    return tuple(found)


def _support(shape: tuple[int, int], pattern: object, share: float) -> Support:
    return select(torch.rand(shape), pattern, Keep.fraction(share))  # type: ignore[arg-type]


def _samples(layout: str, dtype: torch.dtype, supports: list[Support]) -> Iterator[Sample]:
    for support in supports:
        packed = pack(torch.randn(support.shape), support, layout, dtype)
        for batch in _BATCHES:
            x = torch.randn(batch, support.shape[1]).to(dtype)
            yield _sample(packed, support, x)


def _sample(packed: Packed, support: Support, x: Tensor) -> Sample:
    positions = support.shape[0] * support.shape[1]
    seconds = least_seconds(lambda: linear(x, packed))
    return Sample(positions, support.nnz, len(x), seconds, packed.nbytes)


def _dense_samples(dtype: torch.dtype) -> Iterator[Sample]:
    for rows_, cols in (_SHAPE, _SMALL):
        weight = torch.randn(rows_, cols).to(dtype)
        for batch in _BATCHES:
            x = torch.randn(batch, cols).to(dtype)
            seconds = least_seconds(lambda x=x, weight=weight: x @ weight.t())  # type: ignore[misc]
            size = weight.numel()
            yield Sample(size, size, batch, seconds, size * weight.element_size())
