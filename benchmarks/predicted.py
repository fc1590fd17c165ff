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
import time
from collections.abc import Iterator
from pathlib import Path

import torch

from gossamer.core import Keep, Support, nm, rows, select, unstructured
from gossamer.layout import pack
from gossamer.measure import environment
from gossamer.measure.hardware import Device, Kernel, this_cpu
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


def least(call, rounds: int) -> float:
    """Least CPU seconds of so many calls, and of more where they are short."""
    call()
    best, spent, turn = float("inf"), 0.0, 0
    while turn < rounds or (spent < 0.03 and turn < 20 * rounds):
        begun = time.process_time()
        call()
        took = time.process_time() - begun
        best, spent, turn = min(best, took), spent + took, turn + 1
    return best


def case(device: Device, kernel: Kernel, support: Support, batch: int, rounds: int) -> dict:
    """One product, predicted and measured."""
    high, wide = support.shape
    dtype = getattr(torch, kernel.dtype)
    packed = pack(torch.randn(high, wide), support, kernel.layout, dtype)
    x = torch.randn(batch, wide).to(dtype)
    in_cache = packed.nbytes <= device.cache
    bandwidth = device.cache_bandwidth if in_cache else device.bandwidth
    seconds, bound = kernel_time(kernel, high * wide, support.nnz, batch, bandwidth)
    read = packed.nbytes / bandwidth
    roof = max(read, 2 * support.nnz * batch / device.flops["float32"])
    measured = least(lambda: linear(x, packed), rounds)
    return {
        "bound": bound, "predicted ms": round(1e3 * seconds, 4),
        "measured ms": round(1e3 * measured, 4), "ratio": round(measured / seconds, 3),
        "roofline ms": round(1e3 * roof, 4), "roofline bound": "bytes" if roof == read
        else "arithmetic", "share of roofline": round(roof / measured, 3),
        "read ms": round(1e3 * read, 4), "in cache": in_cache, "kernel": explain(x, packed),
    }


def reason(found: dict) -> str:
    """Why a prediction is off, from what the case shows."""
    measured, predicted = found["measured ms"], found["predicted ms"]
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
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--out", type=Path, help="folder for predicted-cpu.json")
    parser.add_argument("--quick", action="store_true")
    args = parser.parse_args()
    torch.set_num_threads(1)
    load = os.getloadavg()[0]
    device = this_cpu(again=True)
    shapes, batches = (((512, 768),), (1, 16)) if args.quick else (SHAPES, BATCHES)
    cases = {}
    for kernel in device.kernels:
        if kernel.layout == "torch" or (kernel.dtype == "float32" and kernel.layout != "csr"):
            continue
        for shape in shapes:
            for name, support in supports(kernel, shape):
                for batch in batches:
                    key = f"{kernel.layout} {kernel.dtype} {shape[0]}x{shape[1]} {name} b{batch}"
                    cases[key] = case(device, kernel, support, batch, args.rounds)
                    print(key, cases[key]["ratio"], file=sys.stderr)
    result = summary(device, cases) | {"load average": [load, os.getloadavg()[0]]}
    text = json.dumps(result, indent=1)
    print(json.dumps({k: v for k, v in result.items() if k != "cases"}, indent=1))
    if args.out:
        args.out.mkdir(parents=True, exist_ok=True)
        (args.out / "predicted-cpu.json").write_text(text + "\n")


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
