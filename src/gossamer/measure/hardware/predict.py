"""predict: time, memory and bound of a forward pass on a device, dense and sparse.

An operation takes as long as the slowest of what it needs: products over the rate of products,
element-wise work over the rate of the vector unit, bytes over the bandwidth. Operations follow
one another; element-wise work and activations that stay on the chip hide behind the product.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from torch import nn

from gossamer.core import ConfigError, UnsupportedError
from gossamer.core.pattern import parse_pattern
from gossamer.measure.hardware.device import BITS, Device, get_device
from gossamer.measure.hardware.roofs import OpTime, Saving, roofs, saving
from gossamer.measure.operations import Op, Work, operations


@dataclass(frozen=True)
class Prediction:
    """What a model of a device says of a model; an output of arithmetic, not a measurement.

    Args:
        work: the operations.
        device: the machine.
        dtype: of weights and activations.
        pattern: of the kept weights.
        density: share of the prunable weights that is kept, as the device uses it.
        batch: samples at once.
        times: seconds and bound of every operation.
        memory: bytes of the weights as they are stored.
        notes: what the device does with this input that was not asked for.
    """

    work: Work
    device: Device
    dtype: str
    pattern: str
    density: float
    batch: int
    times: tuple[OpTime, ...]
    memory: float
    notes: tuple[str, ...] = ()

    @property
    def latency(self) -> float:
        """Seconds of one pass over the batch."""
        return sum(time.seconds for time in self.times)

    @property
    def dense_latency(self) -> float:
        """Seconds of the same pass with every weight."""
        return sum(time.dense_seconds for time in self.times)

    @property
    def throughput(self) -> float:
        """Samples a second."""
        return self.batch / self.latency

    @property
    def speedup(self) -> float:
        """Dense latency over latency, both predicted for this device."""
        return self.dense_latency / self.latency

    def over(self, other: Prediction) -> float:
        """How many times the throughput of another prediction, of any device or model."""
        return self.throughput / other.throughput

    def shares(self) -> dict[str, float]:
        """Share of the time by what bounds it."""
        total = self.latency
        bounds = dict.fromkeys(time.bound for time in self.times)
        return {b: sum(t.seconds for t in self.times if t.bound == b) / total for b in bounds}


def predict(
    model: nn.Module | Work | Sequence[Op],
    device: Device | str,
    density: float | None = None,
    pattern: str | None = None,
    batch: int = 1,
    length: int = 128,
    dtype: str | None = None,
) -> Prediction:
    """Latency, throughput and bounds of a model on a device, and the speed-up over dense.

    Args:
        model: a module, what `operations` found in one, or operations written down.
        device: a record, or the name of one; ``cpu`` is this machine.
        density: share of the prunable weights that is kept; None is what the pattern says, or
            0.5.
        pattern: such as unstructured, rows, 2:4; None is what suits the device.
        batch: samples at once.
        length: tokens of a sample, where the model is a language model.
        dtype: of weights and activations; None is bfloat16 where the device has it.

    Raises:
        ConfigError: a value out of its domain, or a dtype without a rate.
        UnsupportedError: the packed weights do not fit the device's memory.

    >>> dense = predict([Op("w", "linear", 10**9, 10**6, sparsifiable=True)], "s4", 1.0)
    >>> sparse = predict(dense.work, "s4", 0.125)
    >>> sparse.pattern, round(sparse.speedup, 2)
    ('4:32', 8.0)
    """
    if not isinstance(batch, int) or batch < 1:
        raise ConfigError(f"batch must be a whole number of at least 1, not {batch!r}.")
    record = get_device(device) if isinstance(device, str) else device
    work = _work(model, length)
    name = record.dtype(dtype)
    kept = saving(record, _density(density, pattern), pattern, name)
    notes = [kept.note] if kept.note else []
    memory = _memory(work, kept, name)
    if memory > record.memory:
        raise UnsupportedError(
            f"{work.name} takes {memory / 1e9:.1f} GB with its weights packed, more than the "
            f"{record.memory / 1e9:.0f} GB of {record.title}; use a lower density, a narrower "
            "dtype or another device."
        )
    dense = Saving.dense(BITS[name])
    if _memory(work, dense, name) > record.memory:
        notes.append(f"The dense model does not fit {record.title}; its time is hypothetical.")
    if record.sparsity == "balanced" and any(_ragged(op) for op in work.ops):
        notes.append("Weights whose inputs are no multiple of 32 are padded with zeros.")
    return Prediction(
        work, record, name, kept.pattern, kept.density, batch,
        roofs(work.ops, record, kept, name, batch), memory, tuple(notes),
    )


def _work(model: nn.Module | Work | Sequence[Op], length: int) -> Work:
    if isinstance(model, nn.Module):
        return operations(model, length)
    if isinstance(model, Work):
        return model
    ops = tuple(model)
    if not ops or not all(isinstance(op, Op) for op in ops):
        raise ConfigError("A prediction needs a module, a Work, or at least one Op in a list.")
    return Work("the list", ops, sum(op.weights * op.experts for op in ops))


def _density(density: float | None, pattern: str | None) -> float:
    """The share kept, from the density, the pattern, or both where they agree."""
    fixed = None if pattern is None else parse_pattern(pattern).density
    if density is not None and not (math.isfinite(density) and 0 < density <= 1):
        raise ConfigError(f"Density must lie in (0, 1], not {density}.")
    if fixed is not None and density is not None and abs(density - fixed) > 1e-9:
        raise ConfigError(f"The pattern {pattern} keeps {fixed:g} of the weights, which "
                          f"contradicts density {density:g}; leave the density out.")
    return density or fixed or 0.5


def _memory(work: Work, kept: Saving, dtype: str) -> float:
    """Bytes of all weights, the prunable ones packed."""
    pruned = {op.name: op.weights * op.experts for op in work.ops if op.sparsifiable}
    cells = sum(pruned.values())
    return (max(work.parameters - cells, 0) * BITS[dtype] + cells * kept.bits) / 8


def _ragged(op: Op) -> bool:
    return op.sparsifiable and op.shape is not None and op.shape[1] % 32 > 0
