"""Time SparseGPT's layer solver: against a plain column loop, and on the shapes of OPT-175B.

    python benchmarks/sparsegpt_layers.py --device cpu  --out benchmarks/results/sparsegpt-cpu.json
    python benchmarks/sparsegpt_layers.py --device cuda --out benchmarks/results/sparsegpt-gpu.json

The plain column loop is what the algorithm's description says, in float32 torch: invert the
Hessian by Cholesky, factor the inverse, then loop over columns inside blocks of 128. Both run in
the same process on the same matrices, turn by turn; times are the least, ratios also the median.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor

from gossamer.core import Keep, columns, nm
from gossamer.measure import environment
from gossamer.observe.stats import gram
from gossamer.ops.obs import obs_block, reference
from gossamer.prune.parts.hessian import factorise
from gossamer.prune.parts.solver import Budget
from gossamer.prune.parts.sparsegpt import sparsegpt_layer

CALIBRATION_TOKENS = 128 * 2048
OPT_175B = {"layers": 96, "parameters": 174e9, "hidden": 12288, "inner": 49152}
BUDGETS = {"50%": Budget(columns(128), Keep.fraction(0.5)), "2:4": Budget(nm(2, 4), Keep.count(2))}


def plain_column_loop(
    weight: Tensor, hessian: Tensor, budget: Budget, damp: float = 0.01
) -> Tensor:
    """SparseGPT as described in the paper, one column at a time."""
    w, h = weight.float().clone(), hessian.clone()
    h.diagonal().add_(damp * h.diagonal().mean())
    factor = torch.linalg.cholesky(torch.cholesky_inverse(torch.linalg.cholesky(h)), upper=True)
    for left in range(0, w.shape[1], 128):
        right = min(left + 128, w.shape[1])
        block, upper = w[:, left:right].clone(), factor[left:right, left:right]
        error = torch.zeros_like(block)
        if not budget.pattern.is_nm:
            score = block.square() / upper.diagonal().square()
            cut = score.flatten().sort().values[int(score.numel() * 0.5)]
            dropped = score <= cut
        else:
            dropped = torch.zeros_like(block, dtype=torch.bool)
        for j in range(right - left):
            if budget.pattern.is_nm and j % 4 == 0:
                score = block[:, j:j + 4].square() / upper.diagonal()[j:j + 4].square()
                dropped.scatter_(1, j + score.topk(2, dim=1, largest=False).indices, True)
            q = block[:, j].clone()
            q[dropped[:, j]] = 0
            error[:, j] = (block[:, j] - q) / upper[j, j]
            block[:, j:] -= error[:, j, None] * upper[j, j:]
            block[:, j] = q
        w[:, left:right] = block
        w[:, right:] -= error @ factor[left:right, right:]
    return w


def timed(call: Callable[[], object], device: str, repeats: int) -> float:
    """Median seconds of a call, after one warm-up."""
    times = []
    for turn in range(repeats + 1):
        _sync(device)
        started = time.perf_counter()
        call()
        _sync(device)
        if turn or repeats == 0:
            times.append(time.perf_counter() - started)
    return statistics.median(times)


def _sync(device: str) -> None:
    if device == "cuda":
        torch.cuda.synchronize()


def problem(rows: int, cols: int, device: str, tokens: int) -> tuple[Tensor, Tensor]:
    """Random weights, and the Gram matrix of inputs whose scales spread over a decade."""
    generator = torch.Generator(device=device).manual_seed(0)
    x = torch.randn(tokens, cols, generator=generator, device=device)
    x *= torch.logspace(-1, 0, cols, device=device)
    return torch.randn(rows, cols, generator=generator, device=device), x.t() @ x


def check_kernel(device: str) -> float:
    """Greatest difference of the block step from its float64 reference."""
    weight, hessian = problem(300, 128, device, 1024)
    upper = factorise(hessian, 0.01, "check").upper
    keep = torch.rand(300, 128, device=device) > 0.5
    exact = weight.double()
    reference.obs_block(exact, upper.double(), keep, None, None)
    mine = weight.clone()
    obs_block(mine, upper, keep)
    return float((mine - exact).abs().max() / exact.abs().max())


def compare(rows: int, cols: int, device: str, repeats: int) -> list[dict[str, object]]:
    """Ours against the plain loop on one layer, same run."""
    weight, hessian = problem(rows, cols, device, 2 * cols if device == "cpu" else 4096)
    out = []
    for name, budget in BUDGETS.items():
        pairs = [
            (timed(lambda b=budget: sparsegpt_layer(weight, hessian, b), device, 0),
             timed(lambda b=budget: plain_column_loop(weight, hessian, b), device, 0))
            for _ in range(repeats + 1)
        ][1:]  # the first pair warms up
        ours, plain = (min(side) for side in zip(*pairs))
        out.append({"rows": rows, "cols": cols, "pattern": name, "ours_s": ours, "plain_s": plain,
                    "ratio": ours / plain,
                    "median_ratio": statistics.median(a / b for a, b in pairs)})
        print(json.dumps(out[-1]), flush=True)
    return out


def opt_175b(device: str) -> dict[str, object]:
    """Seconds of each part of one OPT-175B layer, and of 96 of them with 128 x 2048 tokens."""
    d, f = OPT_175B["hidden"], OPT_175B["inner"]
    parts: dict[str, float] = {}
    for rows, cols, solves, factors in ((d, d, 4, 2), (f, d, 1, 1), (d, f, 1, 1)):
        weight = torch.randn(rows, cols, device=device)
        tokens = 8192
        x = torch.randn(tokens, cols, device=device, dtype=torch.bfloat16)
        one = timed(lambda x=x: gram(x), device, 2)
        parts[f"gram {cols} for {rows}x{cols}"] = factors * one * CALIBRATION_TOKENS / tokens
        hessian = gram(x)
        hessian.diagonal().add_(tokens / 10)
        parts[f"factor {cols} for {rows}x{cols}"] = factors * timed(
            lambda h=hessian: factorise(h, 0.01, "opt"), device, 1)
        factor = factorise(hessian, 0.01, "opt")
        del hessian, x
        parts[f"solve {rows}x{cols}"] = solves * timed(
            lambda w=weight, u=factor: sparsegpt_layer(w, u, BUDGETS["50%"]), device, 1)
        del factor, weight
        torch.cuda.empty_cache()
        print(json.dumps(parts), flush=True)
    layer = sum(parts.values())
    forward = 2 * 2 * OPT_175B["parameters"] * CALIBRATION_TOKENS
    return {
        "parts_s_a_layer": parts, "layer_s": layer, "solver_hours": 96 * layer / 3600,
        "forward_flops": forward,
        "forward_hours_at_400_tflops": forward / 400e12 / 3600,
        "peak_gib": torch.cuda.max_memory_allocated() / 2**30,
        "note": "Gram time is measured on 8192 tokens and scaled to 262144; the forward passes of "
                "the model itself are counted, not measured.",
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--out", type=Path)
    parser.add_argument("--repeats", type=int, default=3)
    args = parser.parse_args()
    shapes = [(576, 576), (1536, 576), (576, 1536), (2048, 2048)]
    if args.device == "cuda":
        shapes = [(4096, 4096), (14336, 4096), (4096, 14336)]
    result = {
        "benchmark": "sparsegpt_layers", "environment": environment(),
        "kernel_error": check_kernel(args.device),
        "layers": [row for s in shapes for row in compare(*s, args.device, args.repeats)],
    }
    if args.device == "cuda":
        result["opt_175b"] = opt_175b(args.device)
    text = json.dumps(result, indent=1)
    print(text)
    if args.out:
        args.out.write_text(text + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
