"""Costs of the kernels of this CPU, from products whose matrices stay in the cache."""

from __future__ import annotations

import functools
import math
import time
from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

import torch

from gossamer import native
from gossamer.core import Keep, Pattern, nm, rows, select, unstructured
from gossamer.layout import pack
from gossamer.measure.hardware.kernels import Kernel, Sample, from_samples
from gossamer.ops import linear

_SHAPE = (1024, 1024)  # 2 to 4 MB: in the last-level cache, past the one before it
_SMALL = (64, 64)
_BATCHES = (1, 4, 16, 64, 128)
_DENSITIES = (0.7, 0.5, 0.3, 0.2, 0.1, 0.05)
_NM = ((2, 4), (4, 32), (2, 32))
_DTYPES = (torch.float32, torch.bfloat16)
_AT_LEAST, _SECONDS = 3, 0.003  # repeats, and the time that is spent on more of them
_PASSES = 3  # over everything, seconds apart: what a neighbour slows once is quick another time


class _Task(NamedTuple):
    """A product to be timed: layout, dtype and pattern, its sizes, and the call."""

    key: tuple[str, str, str]
    positions: int
    kept: int
    batch: int
    nbytes: int
    call: Callable[[], object]


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
    tasks = list(_tasks())
    seconds = [math.inf] * len(tasks)
    for _ in range(_PASSES):
        seconds = [min(known, least_seconds(task.call)) for known, task in zip(seconds, tasks)]
    found: dict[tuple[str, str, str], list[Sample]] = {}
    for task, least in zip(tasks, seconds):
        sample = Sample(task.positions, task.kept, task.batch, least, task.nbytes)
        found.setdefault(task.key, []).append(sample)
    return tuple(from_samples(*key, list(zip(samples[::2], samples[1::2])))
                 for key, samples in found.items())


def _tasks() -> Iterator[_Task]:
    """Every product: a large matrix and a small one in turn."""
    for dtype in _DTYPES:
        yield from _torch_tasks(dtype)
        if native.core is None:
            continue
        if dtype is torch.bfloat16:  # torch computes the dense layout of float32
            yield from _packed_tasks("dense", dtype, unstructured(), (1.0,))
        yield from _packed_tasks("bitmask", dtype, unstructured(), _DENSITIES)
        yield from _packed_tasks("csr", dtype, unstructured(), _DENSITIES)
        yield from _packed_tasks("condensed", dtype, rows(), _DENSITIES)
        for n, m in _NM:
            yield from _packed_tasks("nm", dtype, nm(n, m), (n / m,))


def _packed_tasks(
    layout: str, dtype: torch.dtype, pattern: Pattern, densities: Sequence[float]
) -> Iterator[_Task]:
    """A packed layout at every density and batch."""
    key = (layout, str(dtype).removeprefix("torch."), str(pattern))
    for density in densities:
        keep = None if pattern.is_nm else Keep.fraction(density)
        supports = [select(torch.rand(shape), pattern, keep) for shape in (_SHAPE, _SMALL)]
        packed = [pack(torch.randn(s.shape), s, layout, dtype) for s in supports]
        for batch in _BATCHES:
            for matrix, support in zip(packed, supports):
                high, wide = matrix.shape
                x = torch.randn(batch, wide).to(dtype)
                yield _Task(key, high * wide, support.nnz, batch, matrix.nbytes,
                            functools.partial(linear, x, matrix))


def _torch_tasks(dtype: torch.dtype) -> Iterator[_Task]:
    """torch's dense product at every batch."""
    key = ("torch", str(dtype).removeprefix("torch."), "unstructured")
    weights = [torch.randn(shape).to(dtype) for shape in (_SHAPE, _SMALL)]
    for batch in _BATCHES:
        for weight in weights:
            x = torch.randn(batch, weight.shape[1]).to(dtype)
            size = weight.numel()
            yield _Task(key, size, size, batch, size * weight.element_size(),
                        functools.partial(torch.nn.functional.linear, x, weight))
