"""Where a measurement was made: processor, threads, instruction sets, versions, memory."""

from __future__ import annotations

import os
import platform
from datetime import datetime, timezone
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import torch

from gossamer import native

# The instruction sets that decide which kernels can run; the rest of the flags is noise here.
_TELLING = (
    "avx2", "fma", "f16c", "avx512f", "avx512bw", "avx512_vbmi2", "avx512_bf16", "avx512_fp16",
    "avx_vnni", "amx_bf16", "amx_int8", "asimd", "asimdhp", "bf16", "sve", "sve2",
)
_PACKAGES = ("gossamer", "torch", "transformers", "tokenizers", "safetensors", "numpy")


def environment() -> dict[str, Any]:
    """What the machine and the software were, as a dictionary that JSON can hold.

    ``cpu`` and ``instructions`` come from the operating system, ``cores`` are those that this
    process may use, ``threads`` those that torch uses, ``kernels`` is the instruction set of
    gossamer's compiled kernels, ``memory_bytes`` the machine's memory, ``load`` the mean number
    of runnable processes over the last minute. Packages are read from their metadata, nothing
    is imported for it.

    >>> environment()["cores"] >= 1
    True
    """
    cpu, flags = _processor()
    return {
        "cpu": cpu,
        "cores": _cores(),
        "threads": torch.get_num_threads(),
        "instructions": [name for name in _TELLING if name in flags],
        "kernels": native.isa(),
        "torch_capability": torch.backends.cpu.get_cpu_capability(),
        "memory_bytes": _memory(),
        "load": round(os.getloadavg()[0], 2) if hasattr(os, "getloadavg") else None,
        "gpu": _gpu(),
        "system": f"{platform.system()} {platform.release()} {platform.machine()}",
        "python": platform.python_version(),
        "versions": {name: found for name in _PACKAGES if (found := _version(name))},
        "date": datetime.now(timezone.utc).isoformat(timespec="seconds"),
    }


def _processor() -> tuple[str, set[str]]:
    """The processor's name and its feature flags."""
    path = Path("/proc/cpuinfo")
    fields: dict[str, str] = {}
    if path.exists():
        for line in path.read_text().splitlines():
            name, _, value = line.partition(":")
            fields.setdefault(name.strip(), value.strip())
    name = fields.get("model name") or fields.get("Model") or platform.processor()
    flags = fields.get("flags") or fields.get("Features") or ""
    return name or platform.machine(), set(flags.split())


def _cores() -> int:
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def _memory() -> int | None:
    if "SC_PHYS_PAGES" not in getattr(os, "sysconf_names", {}):
        return None
    return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")


def _gpu() -> dict[str, Any] | None:
    if not torch.cuda.is_available():
        return None
    found = torch.cuda.get_device_properties(0)
    return {"name": found.name, "memory_bytes": found.total_memory, "cuda": torch.version.cuda}


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None
