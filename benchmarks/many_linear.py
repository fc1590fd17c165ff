"""Whole blocks and lists of weights for one to many inputs, against the fastest dense; JSON.

3072 x 768, float32 inputs, one thread. All contenders run in turn, round after round; the least CPU
time of each is taken, and ratios are to the fastest of torch, onnxruntime and OpenVINO, those that
are installed. Results are checked against float64 first. The load of the machine is recorded: on a
busy one times are too long, ratios less so.

    python benchmarks/many_linear.py --out benchmarks/results/many_linear-CPU.json
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
from gossamer.core import Keep, Pattern, block, nm, rows, select, unstructured
from gossamer.layout import pack, unpack
from gossamer.measure import environment
from gossamer.ops import explain, linear

ROWS, COLS = 3072, 768
# name, layout, pattern, kept share (None where the pattern says it), dtype of the weights
CASES: list[tuple[str, str, Pattern, float | None, torch.dtype]] = [
    ("blocks 8x8, 90 %", "bsr", block(8, 8), 0.1, torch.float32),
    ("blocks 16x16, 90 %", "bsr", block(16, 16), 0.1, torch.float32),
    ("blocks 32x32, 90 %", "bsr", block(32, 32), 0.1, torch.float32),
    ("blocks 16x16, 90 %, bfloat16", "bsr", block(16, 16), 0.1, torch.bfloat16),
    ("2:4, nm", "nm", nm(2, 4), None, torch.float32),
    ("50 %, bitmask", "bitmask", unstructured(), 0.5, torch.float32),
    ("50 %, csr", "csr", unstructured(), 0.5, torch.float32),
    ("70 %, csr", "csr", unstructured(), 0.3, torch.float32),
    ("90 %, csr", "csr", unstructured(), 0.1, torch.float32),
    ("90 %, condensed", "condensed", rows(), 0.1, torch.float32),
]
Run = Callable[[], object]


def contenders(x: Tensor) -> tuple[list[str], dict[str, Run]]:
    """Names of the dense products, and all products; stops where a packed one is off."""
    weight = torch.randn(ROWS, COLS)
    dense = dense_runs([weight], x)
    runs: dict[str, Run] = {name: lambda run=run: run(0) for name, run in dense.items()}
    names = list(runs)
    for name, layout, pattern, share, dtype in CASES:
        keep = {} if share is None else {"keep": Keep.fraction(share)}
        packed = pack(weight, select(weight.abs(), pattern, **keep), layout, dtype)
        truth = x.double() @ unpack(packed).double().t()
        error = float((linear(x, packed).double() - truth).abs().max() / truth.abs().max())
        if error > 1e-5 or explain(x, packed).startswith("reference"):
            raise SystemExit(f"{name}: error {error}, {explain(x, packed)}")
        runs[name] = lambda packed=packed: linear(x, packed)
    blocks = select(weight.abs(), block(16, 16), Keep.fraction(0.1)).apply(weight)
    other = blocks.to_sparse_bsr((16, 16))
    runs["blocks 16x16, 90 %, torch"] = lambda: torch.nn.functional.linear(x, other)
    return names, runs


def compare(batch: int, seconds: float) -> dict[str, object]:
    """Least microseconds of every contender, and its speed as a multiple of the fastest dense."""
    names, runs = contenders(torch.randn(batch, COLS))
    least = dict.fromkeys(runs, float("inf"))
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        for name, run in runs.items():
            begin = time.process_time()
            run()
            least[name] = min(least[name], time.process_time() - begin)
    dense = min(names, key=lambda name: least[name])
    return {
        "batch": batch, "fastest dense": dense,
        "us": {name: round(1e6 * value, 1) for name, value in least.items()},
        "times the fastest dense": {
            name: round(least[dense] / value, 2) for name, value in least.items()},
    }


def main() -> None:
    """Time all contenders on one thread at several batch sizes."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seconds", type=float, default=12.0, help="for each batch size")
    parser.add_argument("--out", type=Path)
    args = parser.parse_args()
    warnings.filterwarnings("ignore", message=".*[Ss]parse.*")
    torch.manual_seed(0)
    torch.set_num_threads(1)
    result = {"benchmark": "many_linear", "environment": environment(), "isa": native.isa(),
              "matrix": [ROWS, COLS], "dtype": "float32", "threads": 1,
              "load": [round(load, 1) for load in os.getloadavg()]}
    with torch.inference_mode():
        result["cases"] = [compare(batch, args.seconds) for batch in (1, 16, 64, 512)]
    text = json.dumps(result, indent=1)
    print(text)
    if args.out:
        args.out.parent.mkdir(parents=True, exist_ok=True)
        args.out.write_text(text + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
