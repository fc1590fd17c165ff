"""Products with whole blocks against cuBLAS on a CUDA GPU, in bfloat16, and training; writes JSON.

Forward, both gradients and a whole training step of an MLP block (forward, backward, with and
without AdamW), each captured in a CUDA graph after warm-up; medians. Every product is first checked
against float64. Blocks are chosen at random over the whole matrix, so that rows differ in length.

    PYTHONPATH=src python benchmarks/block_linear_gpu.py --out benchmarks/results
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable
from pathlib import Path

import torch
import triton
from torch import Tensor, nn

sys.path.insert(0, str(Path(__file__).parent))
from linear_gpu import timed

from gossamer.layout import Packed, unpack
from gossamer.ops import PackedLinear, explain, linear
from gossamer.ops.linear import gpu_blocks
from gossamer.ops.linear.form import form_of, parts_of

HALF = torch.bfloat16
# Dense bfloat16 rate by NVIDIA's datasheet of the H200, in TFLOP/s.
PEAK = 989
# rows, cols, tokens
SHAPES = [(14336, 4096, 4096), (4096, 14336, 4096), (14336, 4096, 16384), (4096, 14336, 16384),
          (8192, 8192, 8192)]
CASES = [(128, 0.1), (64, 0.1), (32, 0.1), (16, 0.1), (128, 0.2), (64, 0.2), (128, 0.05),
         (64, 0.05)]


def make(rows: int, cols: int, side: int, density: float) -> Packed:
    """Random blocks, so many of all."""
    down, across = rows // side, cols // side
    count = round(density * down * across)
    keep = torch.zeros(down * across, dtype=torch.bool, device="cuda")
    keep[torch.randperm(down * across, device="cuda")[:count]] = True
    keep = keep.view(down, across)
    values = torch.randn(count, side, side, device="cuda") * (cols * density) ** -0.5
    return Packed("bsr", (rows, cols), {
        "values": values.to(HALF), "columns": keep.nonzero()[:, 1].to(torch.uint16),
        "row_counts": keep.sum(1, dtype=torch.int32)})


def off(got: Tensor, wanted: Tensor) -> float:
    """Relative error in the Frobenius norm; raises where it is no rounding error."""
    error = float((got.double() - wanted).norm() / wanted.norm())
    if not error < 5e-3:
        raise SystemExit(f"error {error}")
    return round(error, 5)


def check(packed: Packed) -> list[float]:
    """Errors of product and gradients on 512 inputs."""
    rows, cols = packed.shape
    x, dy = (torch.randn(512, n, device="cuda").to(HALF) for n in (cols, rows))
    if not explain(x, packed).startswith("GPU kernel"):
        raise SystemExit(explain(x, packed))
    weight, (_, side, _) = unpack(packed).double(), packed.values.shape
    form, parts = form_of(packed.values, "bsr", packed.shape), parts_of(packed)
    full = (dy.double().t() @ x.double()).view(rows // side, side, -1, side).transpose(1, 2)
    row = torch.arange(rows // side, device="cuda").repeat_interleave(packed.parts["row_counts"])
    return [off(linear(x, packed), x.double() @ weight.t()),
            off(gpu_blocks.grad_x(dy, parts, form), dy.double() @ weight),
            off(gpu_blocks.grad_values(dy, x, parts, form),
                full[row, packed.parts["columns"].long()])]


def of_blocks(packed: Packed, x: Tensor, dy: Tensor) -> list[float]:
    """Microseconds of product, gradient of x and gradient of the blocks."""
    form, parts = form_of(packed.values, "bsr", packed.shape), parts_of(packed)
    return [timed([lambda: linear(x, packed)]),
            timed([lambda: gpu_blocks.grad_x(dy, parts, form)]),
            timed([lambda: gpu_blocks.grad_values(dy, x, parts, form)])]


def of_dense(weight: Tensor, x: Tensor, dy: Tensor) -> list[float]:
    """Microseconds of the same three by cuBLAS."""
    return [timed([lambda: nn.functional.linear(x, weight)]), timed([lambda: dy @ weight]),
            timed([lambda: dy.t() @ x])]


def products(rows: int, cols: int, tokens: int) -> list[dict]:
    """All blocks and densities of one size."""
    x, dy = (torch.randn(tokens, n, device="cuda").to(HALF) for n in (cols, rows))
    dense, found = of_dense(torch.randn(rows, cols, device="cuda").to(HALF), x, dy), []
    for side, density in CASES:
        packed = make(rows, cols, side, density)
        errors, times = check(packed), of_blocks(packed, x, dy)
        work = 2 * tokens * packed.values.numel()
        found.append({
            "matrix": [rows, cols], "tokens": tokens, "block": side, "density": density,
            "cublas us": [round(t, 1) for t in dense], "us": [round(t, 1) for t in times],
            "ratio": [round(d / t, 2) for d, t in zip(dense, times)],
            "share of peak": [round(work / t / 1e6 / PEAK, 3) for t in times],
            "cublas share of peak": [round(2 * tokens * rows * cols / d / 1e6 / PEAK, 3)
                                     for d in dense],
            "error": errors,
        })
        print(found[-1], file=sys.stderr)
    return found


def step(model: nn.Module, x: Tensor, dy: Tensor,
         optimizer: torch.optim.Optimizer | None) -> Callable[[], None]:
    """One training step: forward, backward to x too, and the optimizer where there is one."""
    def run() -> None:
        x.grad = None
        for parameter in model.parameters():
            parameter.grad = None
        model(x).backward(dy)
        if optimizer is not None:
            optimizer.step()

    return run


def training(tokens: int, side: int | None, density: float) -> dict[str, float]:
    """Microseconds of a step of an MLP block 4096 -> 14336 -> 4096 with GELU between."""
    def build(rows: int, cols: int) -> nn.Module:
        if side is None:
            return nn.Linear(cols, rows, bias=False, device="cuda", dtype=HALF)
        return PackedLinear(make(rows, cols, side, density), trainable=True)

    model = nn.Sequential(build(14336, 4096), nn.GELU(approximate="tanh"), build(4096, 14336))
    x = torch.randn(tokens, 4096, device="cuda").to(HALF).requires_grad_(True)
    dy = torch.randn(tokens, 4096, device="cuda").to(HALF)
    adam = torch.optim.AdamW(model.parameters(), lr=1e-4, fused=True, capturable=True)
    return {"forward and backward": round(timed([step(model, x, dy, None)]), 1),
            "with AdamW": round(timed([step(model, x, dy, adam)]), 1)}


def torch_blocks(rows: int, cols: int, tokens: int) -> dict[str, float]:
    """Microseconds of torch's own product with a sparse matrix of blocks of 64."""
    packed = make(rows, cols, 64, 0.1)
    weight = unpack(packed).to_sparse_bsr((64, 64))
    x = torch.randn(tokens, cols, device="cuda").to(HALF)
    return {"torch": round(timed([lambda: nn.functional.linear(x, weight)]), 1),
            "ours": round(timed([lambda: linear(x, packed)]), 1)}


def main() -> None:
    """Check, time, write."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, help="folder for block-linear-gpu-h200.json")
    args = parser.parse_args()
    torch.manual_seed(0)
    result: dict = {"gpu": torch.cuda.get_device_name(), "torch": torch.__version__,
                    "triton": triton.__version__, "dtype": "bfloat16", "peak TFLOP/s": PEAK,
                    "order": ["y = x W^T", "dx = dy W", "dW = dy^T x"], "products": []}

    def write() -> None:
        if args.out:
            name = torch.cuda.get_device_name().split()[-1].lower()
            path = args.out / f"block-linear-gpu-{name}.json"
            path.write_text(json.dumps(result, indent=1) + "\n")

    for shape in SHAPES:
        result["products"] += products(*shape)
        write()
    for tokens in (4096, 16384):
        steps = {"dense": training(tokens, None, 1.0)}
        for side, density in ((128, 0.1), (64, 0.1), (128, 0.05)):
            steps[f"blocks of {side}, density {density}"] = took = training(tokens, side, density)
            took.update({f"ratio, {name}": round(steps["dense"][name] / us, 2)
                         for name, us in list(took.items())})
        result[f"training step of an MLP block, {tokens} tokens, us"] = steps
        print(steps, file=sys.stderr)
        write()
    result["14336 x 4096, blocks of 64, 4096 tokens, us"] = torch_blocks(14336, 4096, 4096)
    write()


if __name__ == "__main__":
    main()
