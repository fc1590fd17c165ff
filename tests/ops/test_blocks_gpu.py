"""The GPU kernels of whole blocks: against float64 on a GPU and, small, under the interpreter."""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from gossamer.core import Keep, Support, block, select
from gossamer.layout import Packed, pack, unpack
from gossamer.layout.bsr import plan_of
from gossamer.ops import PackedLinear, explain, linear
from gossamer.ops.linear import gpu_blocks
from gossamer.ops.linear.form import form_of, parts_of

HALF = torch.bfloat16
TOLERANCE = {HALF: 6e-3, torch.half: 8e-4, torch.float: 2e-6}


def blocks_of(down: int, across: int, side: tuple[int, int], density: float,
              dtype: torch.dtype = HALF) -> Packed:
    """A matrix of so many blocks; its first row of blocks and its second column are empty."""
    shape = (down * side[0], across * side[1])
    mask = select(torch.rand(shape), block(*side), Keep.fraction(density)).mask().clone()
    if down * across > 2:
        mask[: side[0]] = False
        mask[:, side[1] : 2 * side[1]] = False
    return pack(torch.randn(shape), Support.of(mask, block(*side)), "bsr", dtype)


def assert_near(got: Tensor, wanted: Tensor, size: Tensor, tolerance: float) -> None:
    assert got.shape == wanted.shape
    assert bool(((got.double() - wanted).abs() <= tolerance * size + 1e-6).all())


def assert_right(x: Tensor, packed: Packed, bias: Tensor | None = None) -> None:
    """Product and gradients, against float64."""
    assert explain(x, packed).startswith("GPU kernel for bsr")
    values = packed.values.detach().clone().requires_grad_(True)
    held = Packed("bsr", packed.shape, {**packed.parts, "values": values})
    given, weight = x.detach().requires_grad_(True), unpack(packed).double()
    y = linear(given, held, bias)
    dy = torch.randn_like(y)
    y.backward(dy)
    wide, error, tolerance = x.double(), dy.double(), TOLERANCE[x.dtype]
    added = 0.0 if bias is None else bias.double()
    assert_near(y, wide @ weight.t() + added, wide.abs() @ weight.abs().t() + abs(added), tolerance)
    assert given.grad is not None
    assert values.grad is not None
    assert_near(given.grad, error @ weight, error.abs() @ weight.abs(), tolerance)

    def kept(full: Tensor) -> Tensor:
        whole = pack(full, Support.of(unpack(packed) != 0, block(*packed.values.shape[1:])), "bsr")
        return whole.values

    wide, error = wide.flatten(0, -2), error.flatten(0, -2)
    assert_near(values.grad, kept(error.t() @ wide), kept(error.abs().t() @ wide.abs()), tolerance)


@pytest.mark.gpu
@pytest.mark.parametrize("side", [(16, 16), (32, 32), (64, 64), (128, 128), (16, 128), (64, 32)])
@pytest.mark.parametrize("dtype", [HALF, torch.half, torch.float])
def test_products_and_gradients_equal_float64(side: tuple[int, int], dtype: torch.dtype) -> None:
    for down, across, density, tokens in ((1, 1, 1.0, 1), (3, 7, 0.3, 19), (9, 5, 0.5, 600),
                                          (40, 3, 0.2, 1100)):
        packed = blocks_of(down, across, side, density, dtype).to("cuda")
        x = torch.randn(tokens, packed.shape[1], device="cuda").to(dtype)
        bias = torch.randn(packed.shape[0], device="cuda") if tokens % 2 else None
        assert_right(x, packed, bias)


@pytest.mark.gpu
def test_large_products_are_cut_otherwise() -> None:
    for side, shape, tokens in (((64, 64), (16, 64), 4096), ((64, 64), (64, 16), 4096),
                                ((128, 128), (16, 32), 2048)):
        packed = blocks_of(*shape, side, 0.4).to("cuda")
        assert_right(torch.randn(tokens, packed.shape[1], device="cuda").to(HALF), packed)


@pytest.mark.gpu
def test_any_leading_shape_stride_and_alignment() -> None:
    packed = blocks_of(5, 6, (32, 32), 0.4).to("cuda")
    cols = packed.shape[1]
    x = torch.randn(2, 3, cols, device="cuda").to(HALF)
    assert torch.equal(linear(x, packed)[1, 2], linear(x[1, 2], packed))
    assert_right(torch.randn(cols, 5, device="cuda").to(HALF).t(), packed)
    assert_right(torch.randn(7 * cols + 1, device="cuda").to(HALF)[1:].view(7, cols), packed)
    assert linear(x[:0], packed).shape == (0, 3, packed.shape[0])
    none = pack(torch.zeros(32, 64), Support.of(torch.zeros(32, 64, dtype=torch.bool),
                                                block(16, 16)), "bsr", HALF).to("cuda")
    assert not bool(linear(torch.randn(3, 64, device="cuda").to(HALF), none).any())


@pytest.mark.gpu
def test_an_input_that_is_not_finite_stays_in_its_row() -> None:
    packed = blocks_of(4, 4, (64, 64), 0.5).to("cuda")
    x = torch.randn(70, 256, device="cuda").to(HALF)
    x[69] = torch.nan
    y = linear(x, packed)
    assert bool(y[:69].isfinite().all())
    assert not bool(y[:, :64].isnan().any())  # its first row of blocks is empty
    assert bool(y[69].isnan().any())


@pytest.mark.gpu
def test_a_layer_is_trained_compiled_and_captured() -> None:
    layer = PackedLinear(blocks_of(4, 6, (64, 64), 0.5, torch.float), torch.randn(256),
                         trainable=True).to("cuda")
    x = torch.randn(33, 384, device="cuda")
    with torch.autocast("cuda", HALF):
        eager = layer(x)
        compiled = torch.compile(layer, fullgraph=True)(x)
    assert eager.dtype == compiled.dtype == HALF
    torch.testing.assert_close(compiled, eager)
    eager.float().square().sum().backward()
    wanted = layer.values.grad.clone()
    assert wanted.dtype == torch.float
    layer.zero_grad()
    compiled.float().square().sum().backward()
    torch.testing.assert_close(layer.values.grad, wanted)
    optimizer = torch.optim.AdamW(layer.parameters(), lr=1e-2)
    first = float(layer(x).square().sum())
    for _ in range(5):
        optimizer.zero_grad()
        layer(x).square().sum().backward()
        optimizer.step()
    assert float(layer(x).square().sum()) < first
    half = PackedLinear(layer.packed.to("cuda")).to(HALF)
    with torch.inference_mode():
        wanted = half(x.to(HALF))
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph):
            y = half(x.to(HALF))
        y.zero_()
        graph.replay()
    assert torch.equal(y, wanted)


@pytest.mark.gpu
def test_explain_says_what_the_kernels_do_not_take() -> None:
    x = torch.randn(3, 96, device="cuda").to(HALF)
    odd = pack(torch.randn(24, 96), select(torch.rand(24, 96), block(8, 16), Keep.fraction(0.5)),
               "bsr", HALF).to("cuda")
    assert "not 8x16" in explain(x, odd)
    good = blocks_of(3, 6, (16, 16), 0.5).to("cuda")
    assert "not torch.float32 by torch.bfloat16" in explain(x.float(), good)
    weight = unpack(good).double()
    torch.testing.assert_close(linear(x.float(), good).double(), x.double() @ weight.t(),
                               rtol=1e-4, atol=1e-4)


def test_the_cpu_is_refused_by_name() -> None:
    packed = blocks_of(3, 3, (16, 16), 0.5)
    form = form_of(packed.values, "bsr", packed.shape)
    reason = gpu_blocks.refusal(torch.randn(1, 48).to(HALF), parts_of(packed), form)
    assert reason == "the GPU kernels run on cuda, not on cpu"


def test_a_trainable_layer_on_the_cpu_goes_the_same_way() -> None:
    packed = blocks_of(3, 4, (16, 16), 0.5, torch.float)
    layer = PackedLinear(packed, torch.zeros(48), trainable=True)
    assert {name for name, _ in layer.named_parameters()} == {"values", "bias"}
    assert layer.state_dict().keys() == PackedLinear(packed, torch.zeros(48)).state_dict().keys()
    x = torch.randn(5, 64)
    layer(x).square().sum().backward()
    weight = unpack(packed).requires_grad_(True)
    (x @ weight.t()).square().sum().backward()
    mask = unpack(packed) != 0
    assert weight.grad is not None
    wanted = pack(weight.grad, Support.of(mask, block(16, 16)), "bsr").values
    torch.testing.assert_close(layer.values.grad, wanted, rtol=1e-4, atol=1e-3)


@given(down=st.integers(1, 9), across=st.integers(1, 9), density=st.sampled_from([1e-6, 0.3, 1.0]))
@settings(max_examples=40, deadline=None)
def test_the_plan_goes_through_every_block_once(down: int, across: int, density: float) -> None:
    support = select(torch.rand(down * 2, across * 3), block(2, 3), Keep.fraction(density))
    packed = pack(torch.randn(support.shape), support, "bsr")
    plan = plan_of(packed.starts, packed.shape, packed.values)
    row = torch.repeat_interleave(torch.arange(down), packed.parts["row_counts"].long())
    column = packed.parts["columns"].long()
    assert plan.row_starts.tolist() == [int((row < r).sum()) for r in range(down + 1)]
    assert plan.column_starts.tolist() == [int((column < c).sum()) for c in range(across + 1)]
    assert sorted(plan.order.tolist()) == list(range(len(row)))
    assert bool((column[plan.order].diff() >= 0).all())
    assert torch.equal(plan.rows, row[plan.order])
    for starts, longest in ((plan.row_starts, plan.longest_rows),
                            (plan.column_starts, plan.longest_columns)):
        assert sorted(longest.tolist()) == list(range(len(longest)))
        assert bool((starts.diff()[longest].diff() <= 0).all())


TRITON = """
import torch
from gossamer.layout import Packed, pack, unpack
from gossamer.layout.bsr import plan_of
from gossamer.ops.linear import triton_bsr
from gossamer.ops.linear.triton_bsr import Lines, Tiling
torch.manual_seed(0)
for dtype, height, width, tile in ((torch.float32, 16, 16, 16), (torch.float16, 64, 32, 32)):
    keep = torch.rand(5, 6) < 0.4
    keep[0], keep[:, 1] = False, False
    packed = Packed("bsr", (5 * height, 6 * width), {
        "values": torch.randn(int(keep.sum()), height, width).to(dtype),
        "columns": keep.nonzero()[:, 1].to(torch.uint16),
        "row_counts": keep.sum(1, dtype=torch.int32)})
    plan = plan_of(packed.starts, packed.shape, packed.values)
    x, dy = torch.randn(37, 6 * width).to(dtype), torch.randn(37, 5 * height).to(dtype)
    bias, weight = torch.randn(5 * height), unpack(packed).double()
    rows = Lines(plan.row_starts, None, packed.parts["columns"], plan.longest_rows)
    columns = Lines(plan.column_starts, plan.order, plan.rows, plan.longest_columns)
    tiling, blocks = Tiling(tile, 16, 4, 2), Tiling(2, 16, 4, 2)

    def near(got, wanted):
        error = float((got.double() - wanted).norm() / wanted.norm())
        assert error < (1e-6 if dtype == torch.float32 else 1e-3), error

    y = triton_bsr.spread(x, packed.values, rows, bias, tiling, "ieee")
    near(y, x.double() @ weight.t() + bias.double())
    near(triton_bsr.spread(dy, packed.values, columns, None, tiling, "ieee"), dy.double() @ weight)
    full = (dy.double().t() @ x.double()).view(5, height, 6, width).transpose(1, 2)[keep]
    for lines, shared, other in ((rows, dy, x), (columns, x, dy)):
        for split in (1, 2):
            near(triton_bsr.gather(shared, other, packed.values, lines, blocks, (2, split),
                                   "ieee"), full)
"""


@pytest.mark.skipif(importlib.util.find_spec("triton") is None, reason="triton is not installed")
def test_products_and_gradients_under_the_interpreter() -> None:
    path = os.pathsep.join(p for p in sys.path if p)
    done = subprocess.run(
        [sys.executable, "-c", TRITON], capture_output=True, text=True, check=False,
        env={**os.environ, "PYTHONPATH": path, "TRITON_INTERPRET": "1"})
    assert done.returncode == 0, done.stderr[-2000:]
