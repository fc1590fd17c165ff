"""this_cpu: the machine at hand as a Device, measured once and kept in the user's cache folder."""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import json
import os
from pathlib import Path
from types import MappingProxyType
from typing import Any

import torch

from gossamer import native
from gossamer.core import StoreError
from gossamer.core.atomic import write_text
from gossamer.core.folders import cache_folder
from gossamer.measure.environment import environment
from gossamer.measure.hardware.calibrate import calibrate, least_seconds
from gossamer.measure.hardware.device import CPU, Device
from gossamer.measure.hardware.kernels import Costs, Kernel

_FORMAT = 3
_TELLING = ("cpu", "cores", "threads", "instructions", "kernels", "memory_bytes", "versions")
_LARGE = 256 << 20  # bytes read to measure memory: past every last-level cache but the largest
_CACHE = 8 << 20  # last-level cache where the system does not say
_SIDES = {torch.float32: 1024, torch.bfloat16: 512}  # squares whose product gives the rate
_ELEMENTS = 1 << 16


def this_cpu(again: bool = False) -> Device:
    """This machine with the threads that torch uses now, measured in about fifteen seconds.

    Measured are the rate at which memory and the last-level cache are read, the rate of torch's
    products in float32 and bfloat16, of element-wise additions, and the costs of gossamer's
    kernels. The result is kept under the CPU's name, its instruction sets, the number of threads
    and the versions of what was measured; other programs that run meanwhile make it worse.

    Args:
        again: measure even where an earlier result is kept.
    """
    about = _about()
    path = _path(about)
    known = None if again else _read(path)
    if known is not None:
        return known
    device = _measure(about)
    with contextlib.suppress(StoreError, OSError):  # it is measured anew next time
        path.parent.mkdir(parents=True, exist_ok=True)
        text = json.dumps({"about": about, "device": _as_json(device)}, indent=1)
        write_text(path, text + "\n")
    return device


def known_cpu() -> Device | None:
    """This machine as an earlier measurement found it; None where there is none to be used."""
    return _read(_path(_about()))


def read_bandwidth(nbytes: int, threads: int) -> float:
    """Bytes a second that a buffer of this size is read with, by gossamer's reader if compiled.

    >>> read_bandwidth(1 << 16, 1) > 0
    True
    """
    buffer = torch.ones(max(1, nbytes // 8), dtype=torch.int64)
    if native.core is None:
        return nbytes / least_seconds(lambda: buffer.sum())
    core, place, size = native.core, buffer.data_ptr(), buffer.numel() * 8
    return size / least_seconds(lambda: core.read(place, size, threads))


def cache_bytes() -> int:
    """Size of the last-level cache in bytes, as the system gives it."""
    folder = Path("/sys/devices/system/cpu/cpu0/cache")
    sizes = [path.read_text().strip() for path in folder.glob("index*/size")]
    factor = {"K": 1 << 10, "M": 1 << 20}
    found = [int(size[:-1]) * factor[size[-1]] for size in sizes if size[-1:] in factor]
    return max(found, default=_CACHE)


def _about() -> dict[str, Any]:
    """What a measurement holds for."""
    found = environment()
    about = {name: found[name] for name in _TELLING} | {"format": _FORMAT}
    if native.core is not None and native.core.__file__:
        stat = os.stat(native.core.__file__)  # kernels may be built anew under the same version
        about["build"] = [stat.st_size, stat.st_mtime_ns]
    return about


def _path(about: dict[str, Any]) -> Path:
    key = hashlib.sha256(json.dumps(about, sort_keys=True).encode()).hexdigest()[:16]
    return cache_folder() / f"cpu-{key}.json"


def _measure(about: dict[str, Any]) -> Device:
    threads = int(about["threads"])
    cache = cache_bytes()
    memory = read_bandwidth(max(_LARGE, 4 * cache), threads)
    flops = {str(dtype).removeprefix("torch."): _product_rate(dtype, side)
             for dtype, side in _SIDES.items()}
    x = torch.randn(_ELEMENTS)
    vector = _ELEMENTS / least_seconds(lambda: x + x)
    return Device(
        CPU, str(about["cpu"]), f"measured with {threads} of {about['cores']} threads", True,
        MappingProxyType(flops), memory, float(about["memory_bytes"] or 4 << 30), "kernels",
        on_chip=cache / 2, compute_share=1.0, memory_share=1.0,
        vector_share=vector / flops["float32"], cache=cache / 2,
        cache_bandwidth=read_bandwidth(cache // 4, threads), kernels=calibrate(),
    )


def _product_rate(dtype: torch.dtype, side: int) -> float:
    a = torch.randn(side, side).to(dtype)
    return 2 * side**3 / least_seconds(lambda: torch.nn.functional.linear(a, a))


def _as_json(device: Device) -> dict[str, Any]:
    plain = {field.name: getattr(device, field.name) for field in dataclasses.fields(device)}
    kernels = [dataclasses.asdict(kernel) for kernel in device.kernels]
    return {**plain, "flops": dict(device.flops), "kernels": kernels}


def _read(path: Path) -> Device | None:
    """The kept measurement; None where there is none or it is damaged."""
    try:
        found = json.loads(path.read_text(encoding="utf-8"))["device"]
        kernels = tuple(
            Kernel(**{**kernel, "costs": tuple(Costs(**costs) for costs in kernel["costs"]),
                      "sizes": tuple(kernel["sizes"])})
            for kernel in found["kernels"])
        return Device(**{**found, "flops": MappingProxyType(found["flops"]), "kernels": kernels})
    except (OSError, ValueError, KeyError, TypeError):
        return None
