"""Weights on a grid against the product of the dequantised weights in float64."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from gossamer import native
from gossamer.core import Support, nm, select
from gossamer.layout import Packed, quantise, unpack
from gossamer.ops import PackedLinear, explain, linear
from gossamer.ops.linear import fallbacks

pytestmark = pytest.mark.skipif(native.core is None, reason="needs the compiled kernels")
FLOAT, HALF = torch.float32, torch.bfloat16
NAMES = ("bitmask_int8", "bitmask_int4", "nm_int8", "nm_int4")


@pytest.fixture(params=native.isas())
def isa(request: pytest.FixtureRequest) -> Iterator[str]:
    before = native.isa()
    native.set_isa(request.param)
    yield request.param
    native.set_isa(before)


def assert_close(got: Tensor, x: Tensor, packed: Packed, bias: Tensor | None = None) -> None:
    weight = unpack(packed).double()
    y, size = x.double() @ weight.t(), x.double().abs() @ weight.abs().t()
    if bias is not None:
        y, size = y + bias.double(), size + bias.double().abs()
    allowed = (2e-6 if got.dtype == FLOAT else 8e-3) * size + 1e-30
    assert got.shape == y.shape
    assert got.dtype == x.dtype
    assert bool(((got.double() - y).abs() <= allowed).all())


def example(layout: str, shape: tuple[int, int], run: int | None = None) -> Packed:
    weight = torch.randn(shape)
    support = Support.of(torch.rand(shape) < 0.5)
    if layout.startswith("nm"):
        support = select(weight.abs(), nm(2, 4))
    return quantise(weight, support, layout, run)


@st.composite
def cases(draw: st.DrawFn) -> tuple[Packed, Tensor, Tensor | None]:
    layout = draw(st.sampled_from(NAMES))
    torch.manual_seed(draw(st.integers(0, 1 << 30)))
    height, run = draw(st.integers(1, 21)), None
    m = draw(st.sampled_from([2, 4, 8, 12])) if layout.startswith("nm") else 1
    width = m * draw(st.integers(1, 300 // m))
    if draw(st.booleans()):
        run = m * draw(st.sampled_from([1, 5, 16, 32, 64]))
        width = run * draw(st.integers(1, 5))
    weight, score = torch.randn(height, width), torch.rand(height, width)
    weight += draw(st.sampled_from([0.0, 3.0, -3.0]))  # zeros at either end of the codes
    support = Support.of(score < draw(st.sampled_from([0.0, 0.1, 0.5, 0.9, 1.0])))
    if layout.startswith("nm"):
        support = select(score, nm(2 * draw(st.integers(1, m // 2)), m))
    packed = quantise(weight, support, layout, run)
    x = torch.randn(draw(st.sampled_from([1, 1, 2, 5, 17, 64, 70])), width)
    x *= torch.tensor(10.0) ** draw(st.sampled_from([-30, -9, 0, 9, 20]))
    bias = torch.randn(height) if draw(st.booleans()) else None
    return packed, x.to(draw(st.sampled_from([FLOAT, HALF]))), bias


@pytest.mark.parametrize("name", native.isas())
@given(case=cases())
@settings(max_examples=150, deadline=None)
def test_it_equals_the_product_of_the_dequantised(
    name: str, case: tuple[Packed, Tensor, Tensor | None]
) -> None:
    packed, x, bias = case
    before = native.isa()
    native.set_isa(name)
    got = linear(x, packed, bias)
    native.set_isa(before)
    assert_close(got, x, packed, bias)


@pytest.mark.parametrize("layout", NAMES)
def test_long_rows_whose_sums_nearly_overflow(isa: str, layout: str) -> None:
    for sign in (1.0, -1.0):
        weight = sign * torch.ones(3, 16384 * 2 + 64)
        support = Support.full(3, weight.shape[1])
        if layout.startswith("nm"):
            support = select(torch.rand(weight.shape), nm(2, 4))
        packed = quantise(weight, support, layout)
        x = torch.ones(1, weight.shape[1])
        assert_close(linear(x, packed), x, packed)
        assert_close(linear(-x, packed), -x, packed)


@pytest.mark.parametrize("layout", NAMES)
def test_an_outlier_leaves_small_inputs_their_bits(isa: str, layout: str) -> None:
    packed, x = example(layout, (9, 256)), torch.randn(1, 256)
    x[0, 7] = 3000.0
    assert_close(linear(x, packed), x, packed)


@pytest.mark.parametrize("layout", NAMES)
def test_non_finite_inputs_reach_the_results(isa: str, layout: str) -> None:
    packed = example(layout, (9, 256))
    for bad in (torch.nan, torch.inf):
        x = torch.randn(1, 256)
        x[0, 100] = bad
        kept = unpack(packed)[:, 100] != 0
        assert bool(kept.any())
        assert not bool(linear(x, packed)[0, kept].isfinite().any())
    assert torch.equal(linear(torch.zeros(1, 256), packed), torch.zeros(1, 9))


@pytest.mark.parametrize("layout", NAMES)
def test_threads_do_not_change_a_bit(isa: str, layout: str) -> None:
    packed, before, results = example(layout, (301, 1024), 128), torch.get_num_threads(), []
    x = torch.randn(1, 1024)
    for threads in (1, 2, 5):
        torch.set_num_threads(threads)
        results.append(linear(x, packed))
    torch.set_num_threads(before)
    assert torch.equal(results[0], results[1])
    assert torch.equal(results[0], results[2])


@pytest.mark.parametrize("layout", NAMES)
def test_nothing_falls_back_and_explain_says_so(layout: str) -> None:
    layer = PackedLinear(example(layout, (6, 16), 8), torch.ones(6))
    with fallbacks() as seen:
        for batch in (1, 9, 65):
            for dtype in (FLOAT, HALF):
                layer(torch.randn(2, batch, 16)[:, ::1].transpose(0, 1).to(dtype))
    assert not seen
    isa = native.isa()
    assert explain(torch.randn(1, 16), layer.packed).startswith(f"{isa} kernel for")
    assert explain(torch.randn(70, 16), layer.packed).startswith(f"{isa} expansion of")
    assert explain(torch.randn(1, 16).double(), layer.packed).startswith("reference")


def test_matrices_without_rows_or_values(isa: str) -> None:
    for layout in ("bitmask_int8", "bitmask_int4"):
        none = quantise(torch.zeros(3, 8), Support.of(torch.zeros(3, 8, dtype=torch.bool)), layout)
        bias = torch.randn(3)
        assert torch.equal(linear(torch.randn(8), none, bias), bias)
        assert linear(torch.randn(0, 8), none).shape == (0, 3)
        empty = quantise(torch.zeros(0, 8), Support.full(0, 8), layout)
        assert linear(torch.randn(2, 8), empty).shape == (2, 0)
