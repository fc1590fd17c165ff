"""Roofs of one operation: what each part of a device needs for it, and which is slowest."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from gossamer.core.pattern import parse_pattern
from gossamer.measure.hardware.balance import (
    GROUP,
    balanced_density,
    bits_a_weight,
    random_balance,
    rate_of,
)
from gossamer.measure.hardware.device import BITS, Device
from gossamer.measure.hardware.kernels import Kernel
from gossamer.measure.operations import Op

_TILE = 16  # blocks of at least this side skip whole tiles of a tensor core
_DENSE = ("torch", "dense")


@dataclass(frozen=True)
class OpTime:
    """Predicted time of one operation over the whole batch.

    Args:
        op: the operation.
        seconds: predicted time.
        bound: arithmetic, vector, bytes or kernel (the work of unpacking), whichever is slowest.
        dense_seconds: predicted time with every weight.
        how: the layout that was assumed.
    """

    op: Op
    seconds: float
    bound: str
    dense_seconds: float
    how: str


@dataclass(frozen=True)
class Saving:
    """What sparsity saves on a device.

    Args:
        pattern: of the kept weights.
        density: share kept.
        speed: how many times quicker products with the weights are.
        bits: bits of a weight, index included, zeros counted as weights.
        note: what differs from what was asked.
    """

    pattern: str
    density: float
    speed: float
    bits: float
    note: str = ""

    @staticmethod
    def dense(bits: float) -> Saving:
        """No saving."""
        return Saving("unstructured", 1.0, 1.0, bits)


def saving(device: Device, density: float, pattern: str | None, dtype: str) -> Saving:
    """What this device makes of a density and a pattern."""
    bits = BITS[dtype]
    text = pattern or "unstructured"
    parsed = parse_pattern(text)
    if device.sparsity == "balanced":
        return _balanced(density, pattern, bits)
    if device.sparsity == "kernels":
        return Saving(text, density, 1.0, _packed_bits(text, density, bits))
    if device.sparsity == "dense":
        note = f"{device.title} makes no use of zeros." if density < 1 else ""
        return Saving(text, density, 1.0, bits, note)
    packed = _packed_bits(text, density, bits)
    if text == "2:4":
        return Saving(text, density, 2.0, packed)
    if min(parsed.unit) >= _TILE:
        return Saving(text, density, 1 / density, bits * density)
    note = ("Arithmetic stays dense for this pattern; bytes are saved as far as a kernel keeps up "
            "with the memory.") if density < 1 else ""
    return Saving(text, density, 1.0, packed, note)


def _balanced(density: float, pattern: str | None, bits: int) -> Saving:
    """Rates are powers of two; an uneven mask waits for its fullest lane."""
    even = pattern is None or parse_pattern(pattern).is_nm
    share = density if pattern is None else balanced_density(pattern, density)
    if even:
        rate = rate_of(share)
        exact = abs(rate * share - 1) < 1e-9
        note = "" if exact else (
            f"Density {share:g} runs as {GROUP // rate}:{GROUP} (R = {rate}), the greatest rate "
            "that holds it.")
        return Saving(f"{GROUP // rate}:{GROUP}", 1 / rate, float(rate),
                      bits_a_weight(rate, bits), note)
    factor = random_balance(share)
    speed = max(1.0, min(1 / share, GROUP) / factor)
    note = (f"An uneven mask waits for its fullest lane: a random one of this density takes "
            f"{factor:.2f} times as long as a balanced one.")
    return Saving(str(pattern), share, speed, min(bits, (bits + math.log2(GROUP)) * share), note)


def _packed_bits(pattern: str, density: float, bits: int) -> float:
    """Bits of a weight in the smallest general layout: N:M places, or one bit a position."""
    parsed = parse_pattern(pattern)
    if density >= 1:
        return bits
    if parsed.is_nm:
        m = parsed.pool[1] or 1
        return min(bits, density * (bits + (m - 1).bit_length()))
    return min(bits, bits * density + 1)


def roofs(
    ops: Sequence[Op], device: Device, kept: Saving, dtype: str, batch: int
) -> tuple[OpTime, ...]:
    """Time and bound of every operation."""
    plain = Saving.dense(BITS[dtype])
    sparse_bandwidth = _bandwidth(device, ops, kept, dtype)
    dense_bandwidth = _bandwidth(device, ops, plain, dtype)
    found = []
    for op in ops:
        dense = _slowest(op, device, plain, dtype, (batch, dense_bandwidth))
        used = kept if op.sparsifiable else plain
        bandwidth = sparse_bandwidth
        seconds, bound, how = _slowest(op, device, used, dtype, (batch, bandwidth))
        found.append(OpTime(op, seconds, bound, dense[0], how))
    return tuple(found)


def _bandwidth(device: Device, ops: Sequence[Op], kept: Saving, dtype: str) -> float:
    """Bytes a second that weights come with: the cache's where all of them stay in it."""
    size = sum(op.weights * op.experts * (kept.bits if op.sparsifiable else BITS[dtype]) / 8
               for op in ops)
    if size <= device.cache:
        return device.cache_bandwidth
    return device.bandwidth * device.memory_share


def _slowest(
    op: Op, device: Device, kept: Saving, dtype: str, load: tuple[int, float]
) -> tuple[float, str, str]:
    """Seconds, bound and layout of an operation under a batch and a bandwidth of its weights."""
    batch, bandwidth = load
    if op.kind == "linear" and device.sparsity == "kernels":
        choices = [_with_kernel(op, kernel, kept, load) for kernel in device.kernels
                   if kernel.dtype == dtype and _fits(kernel, kept)]
        if choices:
            return min(choices)
    pad = _padding(op) if device.sparsity == "balanced" and kept.density < 1 else 1.0
    can_skip = op.kind == "linear" or device.sparsity != "kernels"
    speed, bits = (kept.speed, kept.bits) if can_skip else (1.0, float(BITS[dtype]))
    rate = device.flops[dtype] * device.compute_share
    moved = op.activations * batch * BITS[dtype] / 8
    activations = 0.0 if moved <= device.on_chip else moved / (
        device.bandwidth * device.memory_share)
    times = {
        "arithmetic": 2 * op.macs * batch * pad / (rate * speed),
        "vector": op.vector * batch / (rate * device.vector_share),
        "bytes": op.read(batch) * pad * bits / 8 / bandwidth + activations,
    }
    bound = max(times, key=lambda name: times[name])
    return times[bound], bound, "dense" if kept.density >= 1 else kept.pattern


def kernel_time(
    kernel: Kernel, positions: float, kept: float, batch: int, bandwidth: float
) -> tuple[float, str]:
    """Seconds and bound of a product: the kernel's own work, or its bytes where those are slower.

    Args:
        kernel: with measured costs.
        positions: entries of the matrix, kept or not.
        kept: entries that are stored.
        batch: inputs.
        bandwidth: bytes a second that the packed matrix comes with.
    """
    work = kernel.seconds(positions, kept, batch)
    streamed = kernel.nbytes(positions, kept) / bandwidth
    if streamed > work:
        return streamed, "bytes"
    return work, "arithmetic" if kernel.layout in _DENSE else "kernel"


def _with_kernel(
    op: Op, kernel: Kernel, kept: Saving, load: tuple[int, float]
) -> tuple[float, str, str]:
    """Seconds, bound and layout by one kernel."""
    batch, bandwidth = load
    positions = op.read(batch)
    inputs = max(1, round(op.macs * batch / max(positions, 1)))
    share = kept.density if kernel.layout not in _DENSE else 1.0
    seconds, bound = kernel_time(kernel, positions, positions * share, inputs, bandwidth)
    return seconds, bound, kernel.layout


def _fits(kernel: Kernel, kept: Saving) -> bool:
    """True where the kernel's layout holds the pattern; dense layouts hold every one."""
    if kernel.layout in _DENSE:
        return True
    if kept.density >= 1:
        return False
    even = kept.pattern == "rows" or parse_pattern(kept.pattern).is_nm
    return kernel.pattern in ("unstructured", kept.pattern) or (kernel.pattern == "rows" and even)


def _padding(op: Op) -> float:
    """Inputs rounded up to whole runs of 32, over inputs."""
    if op.shape is None or not op.sparsifiable:
        return 1.0
    return math.ceil(op.shape[1] / GROUP) * GROUP / op.shape[1]
