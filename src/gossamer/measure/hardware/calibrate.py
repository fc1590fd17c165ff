"""Costs of the kernels of this CPU, from products whose matrices stay in the cache."""

from __future__ import annotations

import functools
import time
from collections.abc import Callable, Iterator, Sequence

import torch
from torch import Tensor

from gossamer import native
from gossamer.core import Keep, Pattern, Support, nm, rows, select, unstructured
from gossamer.layout import Packed, pack
from gossamer.measure.hardware.kernels import Kernel, Sample, from_samples
from gossamer.ops import linear

_SHAPE = (1024, 1024)  # 2 to 4 MB: in the last-level cache, past the one before it
_SMALL = (64, 64)
_BATCHES = (1, 4, 16, 64, 128)
_DENSITIES = (0.7, 0.5, 0.3, 0.2, 0.1, 0.05)
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
    """Measured costs of every layout's kernel and of torch's product, in float32 and bfloat16."""
    found = []
    for dtype in _DTYPES:
        name = str(dtype).removeprefix("torch.")
        found.append(from_samples("torch", name, "unstructured", list(_torch_pairs(dtype))))
        if native.core is None:
            continue
        if dtype is torch.bfloat16:  # torch computes the dense layout of float32
            pairs = list(_pairs("dense", dtype, lambda shape, _: Support.full(*shape), (1.0,)))
            found.append(from_samples("dense", name, "unstructured", pairs))
        for layout, pattern in (("bitmask", unstructured()), ("csr", unstructured()),
                                ("condensed", rows())):
            pairs = list(_pairs(layout, dtype, functools.partial(_random, pattern), _DENSITIES))
            found.append(from_samples(layout, name, str(pattern), pairs))
        for n, m in _NM:
            pairs = list(_pairs("nm", dtype, functools.partial(_random, nm(n, m)), (n / m,)))
            found.append(from_samples("nm", name, f"{n}:{m}", pairs))
    return tuple(found)


def _random(pattern: Pattern, shape: tuple[int, int], share: float) -> Support:
    keep = None if pattern.is_nm else Keep.fraction(share)
    return select(torch.rand(shape), pattern, keep)


def _pairs(
    layout: str, dtype: torch.dtype, choose: Callable[[tuple[int, int], float], Support],
    densities: Sequence[float],
) -> Iterator[tuple[Sample, Sample]]:
    """A large and a small matrix at every density and batch."""
    for share in densities:
        supports = [choose(shape, share) for shape in (_SHAPE, _SMALL)]
        packed = [pack(torch.randn(s.shape), s, layout, dtype) for s in supports]
        for batch in _BATCHES:
            large, small = (
                _sample(matrix, support.nnz, torch.randn(batch, matrix.shape[1]).to(dtype))
                for matrix, support in zip(packed, supports))
            yield large, small


def _sample(packed: Packed, kept: int, x: Tensor) -> Sample:
    seconds = least_seconds(lambda: linear(x, packed))
    return Sample(packed.shape[0] * packed.shape[1], kept, len(x), seconds, packed.nbytes)


def _torch_pairs(dtype: torch.dtype) -> Iterator[tuple[Sample, Sample]]:
    weights = [torch.randn(shape).to(dtype) for shape in (_SHAPE, _SMALL)]
    for batch in _BATCHES:
        large, small = (_torch_sample(w, torch.randn(batch, w.shape[1]).to(dtype))
                        for w in weights)
        yield large, small


def _torch_sample(weight: Tensor, x: Tensor) -> Sample:
    seconds = least_seconds(lambda: torch.nn.functional.linear(x, weight))
    size = weight.numel()
    return Sample(size, size, len(x), seconds, size * weight.element_size())
