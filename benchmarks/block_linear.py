"""Layouts whose rows share columns against dense and sparse products of torch; prints JSON.

Every contender is timed in turn, round after round, and the least time of each is taken, so that
ratios come from the same run. Results are checked against float64 first. The load of the machine
is recorded: on a busy one the times are too long, the ratios less so.

    python benchmarks/block_linear.py --out benchmarks/results
    python benchmarks/block_linear.py --quick              (a small matrix: does it run?)
"""

from __future__ import annotations

import argparse
import json
import os
import re
import sys
import time
import warnings
from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor

sys.path.insert(0, str(Path(__file__).parent))
from packed_linear import cpu_name

from gossamer import native
from gossamer.core import Keep, Pattern, block, channel_groups, group_nm, select, unstructured
from gossamer.layout import pack, unpack
from gossamer.ops import explain, linear

Run = Callable[[], Tensor]
# name, layout, pattern, kept share
CASES: list[tuple[str, str, Pattern, float]] = [
    ("blocks 16x16, 90 %", "bsr", block(16, 16), 0.1),
    ("blocks 32x32, 90 %", "bsr", block(32, 32), 0.1),
    ("groups of 8, 30 %", "channel_groups", channel_groups(8), 0.7),
    ("groups of 8, 50 %", "channel_groups", channel_groups(8), 0.5),
    ("groups of 8, 90 %", "channel_groups", channel_groups(8), 0.1),
    ("2:4:8", "group_nm", group_nm(2, 4, 8), 0.5),
    ("1:10:4", "group_nm", group_nm(1, 10, 4), 0.1),
    ("unstructured, 90 %", "csr", unstructured(), 0.1),
]


def contenders(weight: Tensor, x: Tensor) -> dict[str, Run]:
    """Products by name; raises where a packed one is off."""
    runs: dict[str, Run] = {"dense, torch": lambda: x @ weight.t()}
    for name, layout, pattern, density in CASES:
        support = select(weight.abs(), pattern, Keep.fraction(density))
        packed = pack(weight, support, layout)
        truth = x.double() @ unpack(packed).double().t()
        error = float((linear(x, packed).double() - truth).abs().max() / truth.abs().max())
        if error > 1e-5 or explain(x, packed).startswith("reference"):
            raise SystemExit(f"{name}: error {error}, {explain(x, packed)}")
        runs[name] = lambda packed=packed: linear(x, packed)  # type: ignore[misc]
    sparse = select(weight.abs(), block(16, 16), Keep.fraction(0.1)).apply(weight)
    rows = sparse.to_sparse_bsr((16, 16))
    runs["blocks 16x16, 90 %, torch bsr"] = lambda: torch.nn.functional.linear(x, rows)
    return runs


def least(runs: dict[str, Run], rounds: int) -> dict[str, float]:
    """Microseconds of the quickest call of each, taken in turn."""
    best = dict.fromkeys(runs, float("inf"))
    for turn in range(rounds + 1):
        for name, run in runs.items():
            start = time.perf_counter()
            run()
            if turn:
                best[name] = min(best[name], time.perf_counter() - start)
    return {name: round(seconds * 1e6, 1) for name, seconds in best.items()}


def main() -> None:
    """Time all contenders on one thread at several batch sizes."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, help="folder for block_linear-<cpu>.json")
    parser.add_argument("--quick", action="store_true")
    args = parser.parse_args()
    warnings.filterwarnings("ignore", message=".*[Ss]parse.*")
    torch.manual_seed(0)
    torch.set_num_threads(1)
    shape = (192, 128) if args.quick else (3072, 768)
    result: dict[str, object] = {
        "cpu": cpu_name(), "isa": native.isa(), "torch": torch.__version__, "threads": 1,
        "shape": shape, "dtype": "float32", "load": [round(load, 1) for load in os.getloadavg()],
    }
    weight = torch.randn(shape)
    for batch in (1, 8, 64, 256):
        times = least(contenders(weight, torch.randn(batch, shape[1])), 3 if args.quick else 60)
        dense = times["dense, torch"]
        result[f"batch {batch}, us"] = times
        result[f"batch {batch}, times dense"] = {n: round(dense / t, 2) for n, t in times.items()}
    text = json.dumps(result, indent=1)
    print(text)
    if args.out:
        name = re.sub(r"[^a-z0-9]+", "-", cpu_name().lower()).strip("-")
        args.out.mkdir(parents=True, exist_ok=True)
        (args.out / f"block_linear-{name}.json").write_text(text + "\n")


if __name__ == "__main__":
    main()
