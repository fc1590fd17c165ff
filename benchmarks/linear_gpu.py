"""Decode products on packed weights against cuBLAS on a CUDA GPU, in bfloat16; writes JSON.

Every product is captured in a CUDA graph over copies of its weights that together are several times
the size of the second-level cache, ours and cuBLAS's alike, and the median of the replays is taken.
First each kernel is checked against float64. Figures of a size are of one process.

    PYTHONPATH=src python benchmarks/linear_gpu.py --out benchmarks/results/linear-gpu-h200.json

``--sweep`` also times every way to share out the columns; `gpu.shares` was read off that.
"""

from __future__ import annotations

import argparse
import itertools
import json
import multiprocessing
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path

import torch
import triton
import triton.language as tl
from torch import Tensor

from gossamer.core import Support, nm, select
from gossamer.layout import Packed, pack, unpack
from gossamer.ops import PackedLinear, explain, linear
from gossamer.ops.linear import gpu, triton_nm, triton_tiled
from gossamer.ops.linear.form import form_of, parts_of

HALF = torch.bfloat16
SHAPES = [(4096, 4096), (6144, 4096), (14336, 4096), (4096, 14336), (8192, 8192), (28672, 8192),
          (8192, 28672)]
# name: layout, density
CASES = {"2:4": ("nm", 0.5), "50 %": ("tiled", 0.5), "70 %": ("tiled", 0.3)}
SHARES = {"nm": [(2, 1), (4, 1), (8, 1), (16, 1), (2, 2), (4, 2)],
          "tiled": [(1, 1), (2, 1), (1, 2), (2, 2), (1, 4), (2, 4)]}
# Bytes that the copies of one matrix come to at least.
ROTATED = 400_000_000
ROWS = 256


def make(layout: str, density: float, cols: int) -> Packed:
    """256 packed rows; larger matrices repeat them, which no kernel could make use of."""
    generator = torch.Generator().manual_seed(cols)
    score = torch.rand(ROWS, cols, generator=generator)
    support = select(score, nm(2, 4)) if layout == "nm" else Support.of(score < density)
    weight = torch.randn(ROWS, cols, generator=generator).to(HALF)
    return pack(weight.cuda(), support, layout)


def repeat(packed: Packed, rows: int) -> Packed:
    """The packed rows over and over."""
    times = rows // ROWS
    parts = {name: part.repeat(times, *[1] * (part.dim() - 1))
             for name, part in packed.parts.items()}
    return Packed(packed.layout, (rows, packed.shape[1]), parts)


def check(packed: Packed) -> float:
    """Greatest error, over batches, relative to the sum of the terms' sizes."""
    worst, weight = 0.0, unpack(packed).double()
    for batch in (1, 3, 8, 16):
        x = torch.randn(batch, packed.shape[1], device="cuda").to(HALF)
        wanted, size = x.double() @ weight.t(), x.double().abs() @ weight.t().abs()
        if not explain(x, packed).startswith("GPU kernel"):
            raise SystemExit(explain(x, packed))
        worst = max(worst, float(((linear(x, packed) - wanted).abs() / size).max()))
    if not worst < 4e-3:
        raise SystemExit(f"{packed.layout} {packed.shape}: error {worst}")
    return worst


def timed(runs: list[Callable[[], object]]) -> float:
    """Median microseconds of one run, inside a CUDA graph of at least 24."""
    stream = torch.cuda.Stream()
    stream.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(stream):
        for run in runs:
            run()
    torch.cuda.synchronize()
    graph, turns = torch.cuda.CUDAGraph(), -(-24 // len(runs))
    with torch.cuda.graph(graph):
        for run in runs * turns:
            run()
    graph.replay()
    found = []
    for _ in range(11):
        begin, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        begin.record()
        graph.replay()
        end.record()
        end.synchronize()
        found.append(begin.elapsed_time(end) * 1e3 / (turns * len(runs)))
    return statistics.median(found)


def copies(nbytes: int) -> range:
    """As many as it takes to pass over the cache."""
    return range(max(3, -(-ROTATED // nbytes)))


@triton.jit
def _read_kernel(data, out, TILE: tl.constexpr):
    first = tl.program_id(0).to(tl.int64) * TILE
    total = tl.sum(tl.load(data + first + tl.arange(0, TILE)))
    if total == 12345:
        tl.store(out, total)


def ceilings() -> dict[str, float]:
    """TB/s of reading, and of copying (bytes read and bytes written)."""
    data = torch.randint(0, 100, (1 << 30,), device="cuda", dtype=torch.int32)
    other, tile = torch.empty_like(data), 8192
    read = timed([lambda: _read_kernel[(data.numel() // tile,)](data, data, TILE=tile,
                                                                num_warps=8)])
    copy = timed([lambda: torch.add(data, 1, out=other)])
    return {"read": round(data.nbytes / read / 1e6, 2),
            "copy": round(2 * data.nbytes / copy / 1e6, 2)}


def call(x: Tensor, packed: Packed, shares: tuple[int, int]) -> Tensor:
    """`linear` with the columns shared out in this way."""
    arranged = x.shape[0] > 4
    if packed.layout == "nm":
        values, index = parts_of(packed)
        tall = gpu.is_tall(form_of(values, "nm", packed.shape), x.shape[0])
        return triton_nm.multiply(x, values, index, None, packed.shape[0], shares, arranged, tall,
                                  True)
    values, bits, starts = parts_of(packed)
    words = gpu.words_of((values, bits, starts), form_of(values, "tiled", packed.shape))
    return triton_tiled.multiply(x, (values, bits, starts), None, packed.shape[0], words, shares,
                                 arranged)


def sweep(x: Tensor, matrices: list[Packed]) -> dict[str, float]:
    """Microseconds of every way to share out the columns that fits."""
    found, (_, cols) = {}, matrices[0].shape
    for shares in SHARES[matrices[0].layout]:
        blocks = cols // (256 if matrices[0].layout == "nm" else 512)
        if blocks % (shares[0] * shares[1]) == 0:
            runs = [lambda m=m, s=shares: call(x, m, s) for m in matrices]
            found[f"{shares[0]}x{shares[1]}"] = round(timed(runs), 2)
    return found


def compare(rows: int, cols: int, small: dict[str, Packed], args: argparse.Namespace) -> list[dict]:
    """Every layout and batch of one size, cuBLAS first."""
    found, dense_bytes = [], 2 * rows * cols
    dense = [torch.randn(rows, cols, device="cuda").to(HALF) for _ in copies(dense_bytes)]
    inputs = {b: torch.randn(b, cols, device="cuda").to(HALF) for b in args.batch}
    cublas = {b: timed([lambda w=w, x=x: torch.nn.functional.linear(x, w) for w in dense])
              for b, x in inputs.items()}
    del dense
    for name, packed in small.items():
        nbytes = repeat(packed, rows).nbytes
        matrices = [repeat(packed, rows) for _ in copies(nbytes)]
        error = check(packed)
        for batch, x in inputs.items():
            took = timed([lambda m=m, x=x: linear(x, m) for m in matrices])
            form = form_of(packed.values, packed.layout, matrices[0].shape)
            shares = gpu.shares(form, gpu.words_of(parts_of(packed), form), batch)
            row = {
                "matrix": [rows, cols], "sparsity": name, "layout": packed.layout, "batch": batch,
                "cublas us": round(cublas[batch], 2), "us": round(took, 2),
                "ratio": round(cublas[batch] / took, 3),
                "ratio of bytes": round(dense_bytes / nbytes, 3),
                "cublas TB/s": round(dense_bytes / cublas[batch] / 1e6, 2),
                "TB/s": round(nbytes / took / 1e6, 2), "shares": list(shares), "error": error,
            }
            if args.sweep and batch in (1, 16):
                row["sweep us"] = sweep(x, matrices)
            found.append(row)
            print(rows, cols, name, batch, row["us"], row["ratio"], row["TB/s"], shares,
                  row.get("sweep us", ""), file=sys.stderr)
    return found


class Block(torch.nn.Module):
    """One decoder block of Llama 3 8B at one token, with a fixed cache of keys and values."""

    def __init__(self, build: Callable[[int, int], torch.nn.Module], context: int) -> None:
        super().__init__()
        self.qkv, self.out = build(6144, 4096), build(4096, 4096)
        self.up, self.down = build(28672, 4096), build(4096, 14336)
        self.cache = torch.randn(2, 1, 8, context, 128, device="cuda").to(HALF)

    def forward(self, x: Tensor) -> Tensor:
        """``x [1, 4096]`` after the block."""
        given = torch.nn.functional.rms_norm(x, (4096,))
        q, k, v = self.qkv(given).split([4096, 1024, 1024], -1)
        self.cache[0, 0, :, -1] = k.view(8, 128)
        self.cache[1, 0, :, -1] = v.view(8, 128)
        attended = torch.nn.functional.scaled_dot_product_attention(
            q.view(1, 32, 1, 128), self.cache[0], self.cache[1], enable_gqa=True)
        x = x + self.out(attended.reshape(1, 4096))
        gate, up = self.up(torch.nn.functional.rms_norm(x, (4096,))).chunk(2, -1)
        return x + self.down(torch.nn.functional.silu(gate) * up)


def decode(small: dict[tuple[str, int], Packed], context: int = 512) -> dict[str, float]:
    """Tokens per second of 32 such blocks with random weights and a dense head, in a CUDA graph."""
    found = {}
    head = torch.randn(128256, 4096, device="cuda").to(HALF)
    for name in ("dense", *CASES):
        def build(rows: int, cols: int, name: str = name) -> torch.nn.Module:
            if name == "dense":
                return torch.nn.Linear(cols, rows, bias=False, device="cuda", dtype=HALF)
            return PackedLinear(repeat(small[name, cols], rows))

        blocks = torch.nn.Sequential(*[Block(build, context) for _ in range(32)])
        x = torch.randn(1, 4096, device="cuda").to(HALF)
        with torch.inference_mode():
            took = timed([lambda b=blocks, x=x: b(x) @ head.t()])
        found[name] = round(1e6 / took, 1)
        del blocks
    return found


def semi_structured(rows: int, cols: int, batch: int) -> float:
    """Microseconds of torch's own 2:4 product."""
    weight = torch.randn(rows, cols, device="cuda").to(HALF)
    weight = weight * torch.tensor([1, 1, 0, 0], device="cuda", dtype=HALF).repeat(rows, cols // 4)
    sparse = torch.sparse.to_sparse_semi_structured(weight)
    x = torch.randn(batch, cols, device="cuda").to(HALF)
    return round(timed([lambda: torch.nn.functional.linear(x, sparse)]), 2)


def _compile(job: tuple[str, tuple[int, int], int, int]) -> None:
    layout, shares, batch, words = job
    cols = (256 if layout == "nm" else 512) * shares[0] * shares[1]
    x = torch.zeros(batch, cols, device="cuda", dtype=HALF)
    weight = torch.zeros(16, cols, dtype=HALF).cuda()
    if layout == "nm":
        call(x, pack(weight, select(torch.rand(16, cols), nm(2, 4)), layout), shares)
    else:
        packed = pack(weight, Support.of(torch.zeros(16, cols, dtype=torch.bool)), layout)
        values, bits, starts = parts_of(packed)
        triton_tiled.multiply(x, (values, bits, starts), None, 16, words, shares, batch > 4)
    torch.cuda.synchronize()


def compile_all(small: dict[tuple[str, int], Packed]) -> None:
    """Compile all that a sweep needs, several at a time, into triton's cache."""
    words = {gpu.words_of(parts_of(p), form_of(p.values, p.layout, p.shape))
             for p in small.values() if p.layout == "tiled"}
    batches = (1, 16)
    jobs = [("nm", s, b, 0) for s, b in itertools.product(SHARES["nm"], batches)]
    jobs += [("tiled", *job) for job in itertools.product(SHARES["tiled"], batches, words)]
    with multiprocessing.get_context("spawn").Pool(14) as pool:
        pool.map(_compile, jobs, chunksize=1)
    print(len(jobs), "kernels", words, file=sys.stderr)


def write(result: dict, path: Path | None) -> None:
    """Write what there is so far."""
    if path:
        path.write_text(json.dumps(result, indent=1) + "\n")


def main() -> None:
    """Check, time, write."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--batch", type=int, nargs="+", default=[1, 16])
    parser.add_argument("--sweep", action="store_true")
    parser.add_argument("--out", type=Path)
    args = parser.parse_args()
    begin = time.time()
    widths = sorted({cols for _, cols in SHAPES})
    small = {(name, cols): make(layout, density, cols)
             for name, (layout, density) in CASES.items() for cols in widths}
    if args.sweep:
        compile_all(small)
    result: dict = {
        "gpu": torch.cuda.get_device_name(), "torch": torch.__version__,
        "triton": triton.__version__, "dtype": "bfloat16", "TB/s": ceilings(), "products": [],
    }
    print(result, round(time.time() - begin), "s", file=sys.stderr)
    for rows, cols in SHAPES:
        mine = {name: small[name, cols] for name in CASES}
        result["products"] += compare(rows, cols, mine, args)
        write(result, args.out)
    result["decode, tokens/s"] = decode(small)
    write(result, args.out)
    result["torch semi-structured, 14336x4096, batch 16, us"] = semi_structured(14336, 4096, 16)
    write(result, args.out)
    print({name: part for name, part in result.items() if name != "products"},
          round(time.time() - begin), "s", file=sys.stderr)


if __name__ == "__main__":
    main()
