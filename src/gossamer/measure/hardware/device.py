"""Device: what a machine can compute and move in a second, and what sparsity it makes use of.

Rates are peaks of dense arithmetic, a multiply and an add counted as two operations. The
records of vendors' devices are of public data sheets; each says in ``source`` which of its
figures were not verified against one. A prediction made from a record is the output of a model,
never a measurement; `this_cpu` is the one record whose figures are measured.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from math import inf
from types import MappingProxyType
from typing import Literal

import torch

from gossamer.core import ConfigError
from gossamer.core.errors import unknown
from gossamer.measure.hardware.kernels import Kernel

BITS: Mapping[str, int] = MappingProxyType(
    {"int8": 8, "float16": 16, "bfloat16": 16, "float32": 32})

# How a device uses zeros in weights:
#   balanced  arithmetic and bytes, where every run of 32 inputs keeps 32/R values
#   2:4       arithmetic twice as fast at 2:4 alone; bytes with kernels that read packed weights
#   dense     not at all
#   kernels   by kernels whose costs were measured
Sparsity = Literal["balanced", "2:4", "dense", "kernels"]


@dataclass(frozen=True)
class Device:
    """A machine as a roofline sees it.

    Args:
        id: short name, as on the command line.
        title: full name.
        source: where the figures come from and which of them are unverified.
        measured: True where the figures were measured on the device itself.
        flops: peak rate of dense products by dtype, operations a second.
        bandwidth: bytes that memory gives in a second.
        memory: bytes of memory.
        sparsity: which zeros it can skip.
        on_chip: activations of an operation up to so many bytes do not go through memory.
        compute_share: share of the peak rate that products reach.
        memory_share: share of the bandwidth that is reached.
        vector_share: rate of element-wise operations over that of dense products.
        cache: bytes of the last-level cache that weights may stay in.
        cache_bandwidth: bytes a second from it.
        kernels: measured costs of kernels, for ``sparsity="kernels"``.
    """

    id: str
    title: str
    source: str
    measured: bool
    flops: Mapping[str, float]
    bandwidth: float
    memory: float
    sparsity: Sparsity
    on_chip: float
    compute_share: float = 0.6
    memory_share: float = 0.8
    vector_share: float = 1 / 16
    cache: float = 0.0
    cache_bandwidth: float = inf
    kernels: tuple[Kernel, ...] = ()

    def __post_init__(self) -> None:
        figures = (*self.flops.values(), self.bandwidth, self.memory, self.compute_share,
                   self.memory_share, self.vector_share, self.cache_bandwidth)
        if not self.flops or min(figures) <= 0:
            raise ConfigError(f"The rates of the device {self.id!r} must all be above 0.")
        if unheard := set(self.flops) - set(BITS):
            raise ConfigError(unknown("dtype", min(unheard), BITS))

    def dtype(self, name: str | None) -> str:
        """The dtype of this name, or the device's narrowest of 16 bits or more for None.

        Raises:
            ConfigError: the record has no rate for it.
        """
        if name is None:
            return next(d for d in ("bfloat16", "float16", "float32") if d in self.flops)
        if name not in self.flops:
            raise ConfigError(f"{self.title} has no rate for {name!r}: choose one of "
                              f"{', '.join(self.flops)}.")
        return name


_PUBLIC = "the vendor's published peaks, read in secondary listings; efficiencies are assumptions"

S4 = Device(
    "s4", "Moffett S4", "unverified: no data sheet of the chip could be read; rates are published "
    "as sparse-equivalent at 32x and divided by 32 here; on-chip activations and efficiencies are "
    "assumptions", False,
    MappingProxyType({"int8": 944e12 / 32, "bfloat16": 472e12 / 32}), 72e9, 20e9, "balanced", inf,
)
T4 = Device(
    "t4", "NVIDIA T4", f"{_PUBLIC}; the memory bandwidth is unverified (300 and 320 GB/s are both "
    "given)", False,
    MappingProxyType({"int8": 130e12, "float16": 65e12}), 320e9, 16e9, "dense", 4e6,
)
A100 = Device(
    "a100", "NVIDIA A100 SXM 80 GB", _PUBLIC, False,
    MappingProxyType({"int8": 624e12, "bfloat16": 312e12, "float16": 312e12}),
    2.039e12, 80e9, "2:4", 40e6,
)
H100 = Device(
    "h100", "NVIDIA H100 SXM", f"{_PUBLIC}; the arithmetic rates are unverified", False,
    MappingProxyType({"int8": 1979e12, "bfloat16": 989e12, "float16": 989e12}),
    3.35e12, 80e9, "2:4", 50e6,
)
H200 = Device(
    "h200", "NVIDIA H200 SXM", f"{_PUBLIC}; the arithmetic rates are unverified", False,
    MappingProxyType({"int8": 1979e12, "bfloat16": 989e12, "float16": 989e12}),
    4.8e12, 141e9, "2:4", 50e6,
)

DEVICES: Mapping[str, Device] = MappingProxyType(
    {device.id: device for device in (S4, T4, A100, H100, H200)})
CPU = "cpu"


def get_device(name: str) -> Device:
    """The record of this name; ``cpu`` is this machine, measured at first use.

    >>> get_device("s4").bandwidth
    72000000000.0
    """
    if name == CPU:
        from gossamer.measure.hardware.cpu import this_cpu  # measures, and imports this file

        return this_cpu()
    if name not in DEVICES:
        raise ConfigError(unknown("device", name, (*DEVICES, CPU)))
    return DEVICES[name]


def torch_dtype(name: str) -> torch.dtype:
    """torch's dtype of this name."""
    dtype: torch.dtype = getattr(torch, name)
    return dtype
