"""Speed-up over sparsity rate, and where a large sparse model overtakes a small dense one."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from types import MappingProxyType

from torch import nn

from gossamer.measure.hardware.balance import RATES
from gossamer.measure.hardware.device import Device
from gossamer.measure.hardware.predict import Prediction, predict
from gossamer.measure.operations import Op, Work, operations

Model = nn.Module | Work | Sequence[Op]


def by_rate(
    model: Model, device: Device | str = "s4", batch: int = 1, length: int = 128,
    dtype: str | None = None,
) -> Mapping[int, Prediction]:
    """The prediction at every rate R of 1, 2, ... 32, where 1/R of the prunable weights is kept.

    >>> found = by_rate([Op("w", "linear", 10**9, 10**6, sparsifiable=True)])
    >>> round(found[32].speedup, 2)
    32.0
    """
    work = operations(model, length) if isinstance(model, nn.Module) else model
    return MappingProxyType({
        rate: predict(work, device, 1 / rate, None, batch, length, dtype) for rate in RATES
    })


def overtaking_rate(
    large: Model, small: Model, device: Device | str = "s4", batch: int = 1, length: int = 128,
    dtype: str | None = None,
) -> int | None:
    """The smallest rate at which the large model, pruned, has more throughput than the small one
    has dense; None where no rate of up to 32 does it."""
    dense = predict(small, device, 1.0, None, batch, length, dtype)
    found = by_rate(large, device, batch, length, dtype)
    return next((rate for rate in RATES if found[rate].over(dense) > 1), None)
