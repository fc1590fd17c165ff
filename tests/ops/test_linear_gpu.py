"""The GPU kernels of linear: against float64 on a GPU, and what they refuse anywhere."""

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

from gossamer.core import Support, nm, select
from gossamer.layout import Packed, pack, unpack
from gossamer.ops import PackedLinear, explain, linear
from gossamer.ops.linear import gpu
from gossamer.ops.linear.form import Form, form_of, parts_of

HALF = torch.bfloat16


def packed_for(layout: str, rows: int, cols: int, density: float = 0.5,
               dtype: torch.dtype = HALF) -> Packed:
    score = torch.rand(rows, cols)
    support = select(score, nm(2, 4)) if layout == "nm" else Support.of(score < density)
    return pack(torch.randn(rows, cols), support, layout, dtype)


def assert_right(x: Tensor, packed: Packed, bias: Tensor | None = None) -> None:
    assert explain(x, packed).startswith(f"GPU kernel for {packed.layout}")
    got, weight = linear(x, packed, bias), unpack(packed).double()
    wanted, size = x.double() @ weight.t(), x.double().abs() @ weight.abs().t() + 1e-6
    if bias is not None:
        wanted, size = wanted + bias.double(), size + bias.double().abs()
    assert got.dtype == x.dtype
    tolerance = 4e-3 if x.dtype == HALF else 6e-4
    assert bool(((got.double() - wanted).abs() <= tolerance * size).all())


@pytest.mark.gpu
@pytest.mark.parametrize("layout", ["nm", "tiled"])
@pytest.mark.parametrize("batches", [(1, 4), (5, 8), (9, 16)])
@given(data=st.data(), rows=st.integers(1, 200), blocks=st.sampled_from([1, 2, 3, 4, 8]),
       density=st.sampled_from([0.0, 0.1, 0.5, 1.0]),
       bias=st.sampled_from([None, HALF, torch.float]))
@settings(max_examples=12, deadline=None)
def test_products_equal_float64(
    layout: str, batches: tuple[int, int], data: st.DataObject, rows: int, blocks: int,
    density: float, bias: torch.dtype | None,
) -> None:
    batch, dtype = data.draw(st.integers(*batches)), data.draw(st.sampled_from([HALF, torch.half]))
    packed = packed_for(layout, rows, 512 * blocks, density, dtype).to("cuda")
    x = torch.randn(batch, 512 * blocks, device="cuda").to(dtype)
    added = None if bias is None else torch.randn(rows, device="cuda").to(bias)
    assert_right(x, packed, added)


@pytest.mark.gpu
@pytest.mark.parametrize("layout", ["nm", "tiled"])
def test_any_leading_shape_stride_and_alignment(layout: str) -> None:
    packed = packed_for(layout, 70, 1024).to("cuda")
    x = torch.randn(2, 3, 1024, device="cuda").to(HALF)
    assert linear(x, packed).shape == (2, 3, 70)
    assert torch.equal(linear(x, packed)[1, 2], linear(x[1, 2], packed))
    assert_right(torch.randn(1024, 5, device="cuda").to(HALF).t(), packed)
    assert_right(torch.randn(1025, device="cuda").to(HALF)[1:], packed)
    assert linear(x[:0], packed).shape == (0, 3, 70)


@pytest.mark.gpu
@pytest.mark.parametrize("layout", ["nm", "tiled"])
def test_inputs_beyond_the_batch_leave_no_trace(layout: str) -> None:
    packed = packed_for(layout, 64, 2048).to("cuda")
    x = torch.randn(6, 2048, device="cuda").to(HALF)
    x[5] = float("nan")
    assert bool(linear(x, packed)[:5].isfinite().all())
    assert bool(linear(x[:5], packed).isfinite().all())


@pytest.mark.gpu
def test_a_weight_that_is_not_finite_reaches_its_row_alone() -> None:
    weight = torch.randn(40, 512)
    weight[3, 7], weight[20, 500] = float("nan"), float("inf")
    support = select(weight.nan_to_num(9.0).abs(), nm(2, 4))
    for layout in ("nm", "tiled"):
        y = linear(torch.ones(2, 512, device="cuda").to(HALF),
                   pack(weight, support, layout, HALF).to("cuda"))
        assert bool(y[:, 3].isnan().all())
        assert bool(y[:, 20].isinf().all())
        assert int((~y.isfinite()).sum()) == 4


@pytest.mark.gpu
@pytest.mark.parametrize("layout", ["nm", "tiled"])
def test_a_layer_is_captured_compiled_and_differentiated(layout: str) -> None:
    layer = PackedLinear(packed_for(layout, 96, 1024), torch.randn(96)).to("cuda")
    x = torch.randn(5, 1024, device="cuda").to(HALF)
    with torch.inference_mode():
        wanted = layer(x)
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph):
            y = layer(x)
        y.zero_()
        graph.replay()
        assert torch.equal(y, wanted)
        assert torch.equal(torch.compile(layer, fullgraph=True)(x), wanted)
    x.requires_grad_(True)
    layer(x).float().sum().backward()
    exact = unpack(layer.packed).double().sum(0).expand(5, -1)
    torch.testing.assert_close(x.grad.double(), exact, rtol=2e-2, atol=0.3)


@pytest.mark.gpu
@pytest.mark.parametrize("dtype", [HALF, torch.half, torch.float])
def test_many_inputs_multiply_an_expanded_matrix(dtype: torch.dtype) -> None:
    for rows, cols, batch in ((20, 128, 1), (70, 1036, 33), (1, 4, 3), (300, 2048, 17)):
        packed = packed_for("nm", rows, cols, dtype=dtype).to("cuda")
        x, bias = torch.randn(batch, cols, device="cuda").to(dtype), torch.randn(rows).cuda()
        assert explain(x, packed).startswith("GPU expansion of nm")
        expected = x.double() @ unpack(packed).double().t() + bias.double()
        error = (linear(x, packed, bias).double() - expected).norm() / expected.norm()
        assert float(error) < {HALF: 6e-3, torch.half: 1e-3, torch.float: 1e-5}[dtype]


@pytest.mark.gpu
def test_rows_are_taken_by_the_32_where_inputs_are_many() -> None:
    for rows, cols, batch in ((6144, 4096, 16), (4100, 8192, 9), (12000, 2048, 13)):
        packed = packed_for("nm", 64, cols)
        parts = {name: part.repeat(-(-rows // 64), *[1] * (part.dim() - 1))[:rows].cuda()
                 for name, part in packed.parts.items()}
        tall = Packed("nm", (rows, cols), parts)
        assert gpu.is_tall(form_of(tall.values, "nm", tall.shape), batch)
        assert_right(torch.randn(batch, cols, device="cuda").to(HALF), tall)


@pytest.mark.gpu
def test_explain_says_what_the_kernels_do_not_take() -> None:
    def why(x: Tensor, packed: Packed) -> str:
        text = explain(x.cuda(), packed.to("cuda"))
        assert text.startswith("reference")
        weight = unpack(packed).double()
        wide = x.double() @ weight.t()
        torch.testing.assert_close(linear(x.cuda(), packed.to("cuda")).cpu().double(), wide,
                                   rtol=2e-2, atol=0.5)
        return text

    tiled = packed_for("tiled", 20, 512)
    assert "1 to 16 inputs, not 17" in why(torch.randn(17, 512).to(HALF), tiled)
    assert "not torch.float32 by" in why(torch.randn(1, 512), tiled)
    assert "multiples of 512 columns, not 500" in why(torch.randn(1, 500).to(HALF),
                                                      packed_for("tiled", 20, 500))
    quarter = pack(torch.randn(8, 256), select(torch.rand(8, 256), nm(1, 4)), "nm", HALF)
    assert "pack the matrix as tiled" in why(torch.randn(1, 512).to(HALF),
                                             packed_for("bitmask", 20, 512))
    assert "takes 2:4, not 1:4" in why(torch.randn(1, 256).to(HALF), quarter)


def test_the_cpu_is_refused_by_name() -> None:
    packed = packed_for("tiled", 4, 512)
    x = torch.randn(1, 512).to(HALF)
    reason = gpu.refusal(x, parts_of(packed), form_of(packed.values, "tiled", packed.shape))
    assert reason == "the GPU kernels run on cuda, not on cpu"
    assert reason in explain(x, packed)


@given(layout=st.sampled_from(["nm", "tiled"]), rows=st.integers(1, 40_000),
       blocks=st.integers(1, 300), words=st.integers(0, 132),
       batch=st.integers(1, 16))
def test_the_columns_are_shared_out_evenly(
    layout: str, rows: int, blocks: int, words: int, batch: int
) -> None:
    step = 256 if layout == "nm" else 512
    warps, split = gpu.shares(Form(layout, rows, blocks * step, (0, 0, 0, 0, 2, 4)), words,
                               batch)
    assert blocks % (warps * split) == 0
    assert warps in (1, 2, 4, 8)
    assert layout == "nm" or warps * (2 * words + 1) * 128 <= 48 << 10
    assert split >= 1


TRITON = """
import torch
from gossamer.ops.linear.triton_warp import arrange, finish
for batch, nm in ((1, True), (5, False), (8, True), (11, True), (16, False)):
    x = torch.arange(1, batch * 512 + 1, dtype=torch.int32).view(batch, 512).view(torch.float16)
    out = arrange(x, nm).view(torch.int32).flatten()
    assert (out[out > 0].sort().values == x.view(torch.int32).flatten()).all()
    # The first product's registers of thread 4 g + t.
    groups = -(-batch // 8)
    first = out.view(4, groups, 8, 32, 4)[0, 0, 0].view(8, 4, 4)[: min(batch, 8)]
    rows = x.view(torch.int32)[:8]
    if nm:
        assert (first[:, 0] == rows[:, [0, 16, 2, 18]]).all()
        assert (first[:, 3] == rows[:, [9, 25, 11, 27]]).all()
    else:
        assert (first.flatten(1) == rows[:, :16]).all()
from gossamer.core import nm, select
from gossamer.layout import pack, unpack
from gossamer.ops.linear.triton_nm import expand
for rows, cols in ((3, 4), (5, 1036), (2, 2048)):
    packed = pack(torch.randn(rows, cols), select(torch.rand(rows, cols), nm(2, 4)), "nm")
    assert torch.equal(expand(packed.values, packed.parts["index"], cols), unpack(packed))
parts, bias = torch.randn(3, 5, 70), torch.randn(70)
y = torch.empty(5, 70)
finish(parts, y, bias)
assert (y - parts.sum(0) - bias).abs().max() < 1e-5
"""


@pytest.mark.skipif(importlib.util.find_spec("triton") is None, reason="triton is not installed")
def test_the_order_of_inputs_and_the_sum_of_parts_under_the_interpreter() -> None:
    path = os.pathsep.join(p for p in sys.path if p)
    done = subprocess.run(
        [sys.executable, "-c", TRITON], capture_output=True, text=True, check=False,
        env={**os.environ, "PYTHONPATH": path, "TRITON_INTERPRET": "1"})
    assert done.returncode == 0, done.stderr[-2000:]
