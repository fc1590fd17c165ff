"""Predicted against measured times of decode products on an H200; prints JSON.

Measured times are those of `linear_gpu.py`; predicted ones come from the record of the device as it
is published, with the assumption that 0.8 of the bandwidth is reached. Nothing is run.

    python benchmarks/predicted_gpu.py benchmarks/results/linear-gpu-h200.json \
        --out benchmarks/results/predicted-h200.json
"""

from __future__ import annotations

import argparse
import json
import statistics
from pathlib import Path

from gossamer.measure import Op
from gossamer.measure.hardware import predict

CLOSE = 0.25
SMALL = 60e6  # bytes below which a fixed cost of some microseconds is a large part of the time


def case(found: dict, name: str) -> dict:
    """One product, dense or packed: microseconds predicted and measured."""
    high, wide = found["matrix"]
    op = Op("w", "linear", high * wide, high * wide, sparsifiable=True, shape=(high, wide))
    sparse = name != "cublas"
    pattern = "2:4" if found["sparsity"] == "2:4" else "unstructured"
    kept = 0.5 if pattern == "2:4" else 1 - float(found["sparsity"].rstrip(" %")) / 100
    made = predict([op], "h200", kept if sparse else 1.0, pattern if sparse else None,
                   found["batch"], dtype="bfloat16")
    measured = found["us"] if sparse else found["cublas us"]
    ratio = measured / (1e6 * made.latency)
    return {
        "bound": made.times[0].bound, "predicted us": round(1e6 * made.latency, 2),
        "measured us": measured, "ratio": round(ratio, 3),
        **({} if abs(ratio - 1) <= CLOSE else {"why": reason(found, name, ratio, made.memory)}),
    }


def reason(found: dict, name: str, ratio: float, size: float) -> str:
    """Why a prediction is off."""
    if ratio < 1:
        return "more than 0.8 of the published bandwidth is reached"
    if name == "tiled":
        return "unpacking a bitmask takes longer than reading it, and the record knows bytes alone"
    if size < SMALL:
        return f"{size / 1e6:.0f} MB take so little that launch and ramp-up, left out, are seen"
    return "less than 0.8 of the published bandwidth is reached"


def main() -> None:
    """Compare every product of the file; print, write."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("measured", type=Path)
    parser.add_argument("--out", type=Path)
    args = parser.parse_args()
    products = json.loads(args.measured.read_text())["products"]
    cases = {}
    for found in products:
        shape = "x".join(map(str, found["matrix"]))
        cases[f"cublas {shape} batch {found['batch']}"] = case(found, "cublas")
        key = f"{found['layout']} {found['sparsity']} {shape} batch {found['batch']}"
        cases[key] = case(found, found["layout"])
    close = [key for key, found in cases.items() if "why" not in found]
    kinds = {name: [found["ratio"] for key, found in cases.items() if key.startswith(name)]
             for name in ("cublas", "nm", "tiled")}
    result = {
        "measured in": args.measured.name, "products": len(cases), "within 25 %": len(close),
        "median ratio": {name: round(statistics.median(r), 3) for name, r in kinds.items() if r},
        "cases": cases,
    }
    text = json.dumps(result, indent=1)
    print(text)
    if args.out:
        args.out.write_text(text + "\n")


if __name__ == "__main__":
    main()
