"""Grouped N:M, 3072 x 768 in float32 on one thread, against the fastest dense product; JSON.

All contenders run in turn, round after round, each on a matrix of its own; the least CPU time of
each is taken, and ratios are to the fastest of torch, onnxruntime and OpenVINO, those that are
installed. The load of the machine is recorded: on a busy one times are too long, ratios less so.

    python benchmarks/grouped_linear.py --out benchmarks/results/grouped_linear-CPU.json
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import time
import warnings
from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor

sys.path.insert(0, str(Path(__file__).parent))
from small_linear import dense_runs

from gossamer import native
from gossamer.core import group_nm, select
from gossamer.layout import pack, unpack
from gossamer.measure import environment
from gossamer.ops import explain, linear

ROWS, COLS = 3072, 768
PATTERNS = ((2, 4, 16), (2, 4, 8), (2, 4, 4), (3, 6, 4), (1, 10, 4))
Run = Callable[[], object]


def contenders(x: Tensor) -> dict[str, Run]:
    """Products by name; stops where a packed one is off."""
    weight = torch.randn(ROWS, COLS)
    dense = dense_runs([weight], x)
    runs: dict[str, Run] = {name: lambda run=run: run(0) for name, run in dense.items()}
    for n, m, g in PATTERNS:
        weight = torch.randn(ROWS, COLS)
        packed = pack(weight, select(weight.abs(), group_nm(n, m, g)), "group_nm")
        truth = x.double() @ unpack(packed).double().t()
        error = float((linear(x, packed).double() - truth).abs().max() / truth.abs().max())
        if error > 1e-5 or explain(x, packed).startswith("reference"):
            raise SystemExit(f"{n}:{m}:{g}: error {error}, {explain(x, packed)}")
        runs[f"{n}:{m}:{g}"] = lambda packed=packed: linear(x, packed)
    return runs


def compare(batch: int, seconds: float) -> dict[str, object]:
    """Least microseconds of every contender, and its speed as a multiple of the fastest dense."""
    runs = contenders(torch.randn(batch, COLS))
    least = dict.fromkeys(runs, float("inf"))
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        for name, run in runs.items():
            begin = time.process_time()
            run()
            least[name] = min(least[name], time.process_time() - begin)
    dense = min((name for name in runs if ":" not in name), key=lambda name: least[name])
    return {
        "batch": batch, "fastest dense": dense,
        "us": {name: round(1e6 * value, 1) for name, value in least.items()},
        "times the fastest dense": {
            name: round(least[dense] / value, 2) for name, value in least.items()},
    }


def main() -> None:
    """Time all contenders on one thread at several batch sizes."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seconds", type=float, default=8.0, help="for each batch size")
    parser.add_argument("--out", type=Path)
    args = parser.parse_args()
    warnings.filterwarnings("ignore", message=".*[Ss]parse.*")
    torch.manual_seed(0)
    torch.set_num_threads(1)
    result = {"benchmark": "grouped_linear", "environment": environment(), "isa": native.isa(),
              "matrix": [ROWS, COLS], "dtype": "float32", "threads": 1,
              "load": [round(load, 1) for load in os.getloadavg()]}
    with torch.inference_mode():
        result["cases"] = [compare(batch, args.seconds) for batch in (1, 8, 16, 64, 512)]
    text = json.dumps(result, indent=1)
    print(text)
    if args.out:
        args.out.parent.mkdir(parents=True, exist_ok=True)
        args.out.write_text(text + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
