"""Predicted against measured times of packed products on this CPU; prints JSON.

The machine is measured first (`this_cpu`), on matrices of 1024x1024. From that, times of other
shapes, densities and batches are predicted and then measured, one thread, least of many rounds of
the process's CPU time. Two predictions stand side by side: the plain roofline (bytes over the
read rate, or kept multiply-adds over the rate of torch's float32 product, whichever is slower),
which no kernel can beat by much, and the kernel's measured costs under the same bandwidth. The
table at the end holds every case where the prediction by kernel is off by more than a quarter.

    python benchmarks/predicted.py --out benchmarks/results
    python benchmarks/predicted.py --quick
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import sys
from collections.abc import Iterator
from pathlib import Path

import torch

from gossamer import native
from gossamer.core import Keep, Support, nm, rows, select, unstructured
from gossamer.layout import Packed, pack
from gossamer.measure import environment
from gossamer.measure.hardware import Device, Kernel, this_cpu
from gossamer.measure.hardware.calibrate import least_seconds
from gossamer.measure.hardware.roofs import kernel_time
from gossamer.ops import explain, linear

SHAPES = ((3072, 768), (4096, 4096), (8192, 3072))
DENSITIES = (0.5, 0.3, 0.1)
BATCHES = (1, 4, 16, 64)
CLOSE = 0.25


def supports(kernel: Kernel, shape: tuple[int, int]) -> Iterator[tuple[str, Support]]:
    """Masks that a kernel's layout holds, with their names."""
    generator = torch.Generator().manual_seed(0)
    score = torch.rand(shape, generator=generator)
    if kernel.layout == "dense":
        yield "dense", Support.full(*shape)
    elif ":" in kernel.pattern:
        n, m = (int(part) for part in kernel.pattern.split(":"))
        yield kernel.pattern, select(score, nm(n, m))
    else:
        pattern = rows() if kernel.pattern == "rows" else unstructured()
        for density in DENSITIES:
            yield f"{density:.0%} kept", select(score, pattern, Keep.fraction(density))


def built(device: Device, shapes, batches) -> Iterator[tuple[str, Kernel, Support, Packed, int]]:
    """Every case: its name, kernel, mask, packed matrix and batch."""
    for kernel in device.kernels:
        if kernel.layout == "torch" or (kernel.dtype == "float32" and kernel.layout != "csr"):
            continue
        for shape in shapes:
            for name, support in supports(kernel, shape):
                weight = torch.randn(shape)
                packed = pack(weight, support, kernel.layout, getattr(torch, kernel.dtype))
                for batch in batches:
                    key = f"{kernel.layout} {kernel.dtype} {shape[0]}x{shape[1]} {name} b{batch}"
                    yield key, kernel, support, packed, batch


def measured(cases: list, passes: int) -> dict[str, list[float]]:
    """CPU seconds of every case, the least of each of several passes through all of them."""
    found: dict[str, list[float]] = {key: [] for key, *_ in cases}
    for turn in range(passes):
        for key, _, _, packed, batch in cases:
            x = torch.randn(batch, packed.shape[1]).to(packed.dtype)
            found[key].append(least_seconds(lambda x=x, packed=packed: linear(x, packed)))
        print(f"pass {turn + 1} of {passes}", file=sys.stderr)
    return found


def figures(device: Device, kernel: Kernel, support: Support, packed: Packed, batch: int,
            times: list[float]) -> dict:
    """One product, predicted and measured."""
    took = min(times)
    in_cache = packed.nbytes <= device.cache
    bandwidth = device.cache_bandwidth if in_cache else device.bandwidth
    positions = support.shape[0] * support.shape[1]
    seconds, bound = kernel_time(kernel, positions, support.nnz, batch, bandwidth)
    read = packed.nbytes / bandwidth
    roof = max(read, 2 * support.nnz * batch / device.flops["float32"])
    return {
        "bound": bound, "predicted ms": round(1e3 * seconds, 4),
        "measured ms": round(1e3 * took, 4), "ratio": round(took / seconds, 3),
        "roofline ms": round(1e3 * roof, 4), "roofline bound": "bytes" if roof == read
        else "arithmetic", "share of roofline": round(roof / took, 3),
        "read ms": round(1e3 * read, 4), "in cache": in_cache,
        "slowest pass over quickest": round(max(times) / took, 2),
        "kernel": explain(torch.zeros(batch, support.shape[1], dtype=packed.dtype), packed),
    }


def reason(found: dict) -> str:
    """Why a prediction is off, from what the case shows."""
    measured, predicted = found["measured ms"], found["predicted ms"]
    if found["slowest pass over quickest"] > max(found["ratio"], 1 / found["ratio"]):
        return "noise: passes over the same product differ by more than the prediction is off"
    apart = found["read ms"] + (predicted if found["bound"] != "bytes" else 0)
    if measured > predicted and not found["in cache"] and found["bound"] != "bytes" and (
            abs(measured / apart - 1) < CLOSE):
        return "reading and unpacking hardly overlap: the time is near their sum"
    if measured > predicted and not found["in cache"]:
        return "from memory: unpacking waits for bytes that the calibration had in the cache"
    if measured > predicted:
        return "in cache, slower than at 1024x1024: another width or another share of overhead"
    if found["bound"] == "bytes":
        return "faster than the read rate: that was measured while the memory was busier"
    return "in cache, faster than at 1024x1024: costs that are paid by row or call weigh less"


def main() -> None:
    """Measure the machine, then every case; print and write."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--passes", type=int, default=6)
    parser.add_argument("--out", type=Path, help="folder for the JSON file")
    parser.add_argument("--quick", action="store_true")
    args = parser.parse_args()
    torch.set_num_threads(1)
    load = os.getloadavg()[0]
    device = this_cpu(again=True)
    shapes, batches = (((512, 768),), (1, 16)) if args.quick else (SHAPES, BATCHES)
    cases = list(built(device, shapes, batches))
    least = measured(cases, args.passes)
    found = {key: figures(device, kernel, support, packed, batch, least[key])
             for key, kernel, support, packed, batch in cases}
    result = summary(device, found) | {"load average": [load, os.getloadavg()[0]]}
    print(json.dumps({k: v for k, v in result.items() if k != "cases"}, indent=1))
    if args.out:
        args.out.mkdir(parents=True, exist_ok=True)
        path = args.out / f"predicted-cpu-{native.isa()}.json"
        path.write_text(json.dumps(result, indent=1) + "\n")


def summary(device: Device, cases: dict[str, dict]) -> dict:
    """The device, every case, how many are close, and the table of those that are not."""
    far = {key: found for key, found in cases.items() if abs(found["ratio"] - 1) > CLOSE}
    bound = [found for found in cases.values() if found["share of roofline"] >= 1 / (1 + CLOSE)]
    by_bound: dict[str, list[float]] = {}
    for found in cases.values():
        by_bound.setdefault(found["bound"], []).append(found["ratio"])
    return {
        "env": environment(), "clock": "cpu time, one thread",
        "device": {"read GB/s": round(device.bandwidth / 1e9, 1),
                   "cache GB/s": round(device.cache_bandwidth / 1e9, 1),
                   "GFLOP/s": {name: round(rate / 1e9, 1) for name, rate in device.flops.items()}},
        "cases measured": len(cases),
        "within 25 % of the prediction by kernel": len(cases) - len(far),
        "at the roofline (within 25 %)": len(bound),
        "median ratio by bound": {name: round(statistics.median(ratios), 3)
                                  for name, ratios in by_bound.items()},
        "not within 25 %": {key: {"ratio": found["ratio"], "bound": found["bound"],
                                  "why": reason(found)} for key, found in far.items()},
        "cases": cases,
    }


if __name__ == "__main__":
    main()
