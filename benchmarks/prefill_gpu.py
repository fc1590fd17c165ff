"""2:4 products of many inputs on a CUDA GPU: ours, cuBLAS and cuSPARSELt, bfloat16; writes JSON.

Medians in a CUDA graph of 24 products one after the other; cuBLAS is timed before and after, since
it slows down as the GPU warms up. cuSPARSELt multiplies a copy of its own, compressed beforehand,
by the algorithm that its search finds quickest.

    PYTHONPATH=src python benchmarks/prefill_gpu.py --out benchmarks/results/prefill-gpu-h200.json
"""

from __future__ import annotations

import argparse
import json
import sys
import warnings
from pathlib import Path

import torch

sys.path.insert(0, str(Path(__file__).parent))
from linear_gpu import HALF, make, repeat, timed

from gossamer.layout import unpack
from gossamer.ops import explain, linear

# rows, cols, inputs
SHAPES = [(8192, 8192, 8192), (14336, 4096, 4096), (4096, 14336, 4096), (8192, 8192, 256)]


def compare(rows: int, cols: int, inputs: int) -> dict:
    """Microseconds of one size, and errors against float64 on 256 inputs."""
    packed = repeat(make("nm", 0.5, cols), rows)
    x, weight = torch.randn(inputs, cols, device="cuda").to(HALF), unpack(packed)
    held = torch._cslt_compress(weight)
    quickest = int(torch._cslt_sparse_mm_search(held, x.t(), transpose_result=True))

    def theirs() -> torch.Tensor:
        return torch._cslt_sparse_mm(held, x.t(), transpose_result=True, alg_id=quickest)

    exact = x[:256].double() @ weight.double().t()
    errors = [float((y[:256].double() - exact).norm() / exact.norm())
              for y in (linear(x, packed), theirs())]
    if not max(errors) < 5e-3:
        raise SystemExit(f"errors {errors}")
    cublas = [timed([lambda: torch.nn.functional.linear(x, weight)])]
    ours, sparse = timed([lambda: linear(x, packed)]), timed([theirs])
    cublas.append(timed([lambda: torch.nn.functional.linear(x, weight)]))
    return {
        "matrix": [rows, cols], "inputs": inputs, "cublas us": [round(t, 1) for t in cublas],
        "us": round(ours, 1), "cusparselt us": round(sparse, 1),
        "ratio": round(min(cublas) / ours, 2), "cusparselt ratio": round(min(cublas) / sparse, 2),
        "cusparselt compression us": round(timed([lambda: torch._cslt_compress(weight)]), 1),
        "unpack us": round(timed([lambda: unpack(packed)]), 1),
        "errors": [round(e, 5) for e in errors], "kernel": explain(x, packed),
    }


def main() -> None:
    """Check, time, write."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path)
    args = parser.parse_args()
    warnings.filterwarnings("ignore", message=".*_cslt.*")
    result = {"gpu": torch.cuda.get_device_name(), "torch": torch.__version__, "dtype": "bfloat16",
              "cusparselt": torch.backends.cusparselt.version(),
              "products": [compare(*shape) for shape in SHAPES]}
    print(json.dumps(result, indent=1))
    if args.out:
        args.out.write_text(json.dumps(result, indent=1) + "\n")


if __name__ == "__main__":
    main()
