"""linear against the dense product in float64, on every instruction set of this machine."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from gossamer import native
from gossamer.core import (
    ConfigError,
    GossamerError,
    Keep,
    Support,
    SupportError,
    UnsupportedError,
    nm,
    rows,
    select,
)
from gossamer.layout import Packed, pack, unpack
from gossamer.ops import explain, linear

FLOAT, HALF = torch.float32, torch.bfloat16
ISAS = native.isas() or ["absent"]


@pytest.fixture(params=ISAS)
def isa(request: pytest.FixtureRequest) -> Iterator[str]:
    before = native.isa()
    if native.core is not None:
        native.set_isa(request.param)
    yield request.param
    if native.core is not None:
        native.set_isa(before)


def wanted(x: Tensor, packed: Packed, bias: Tensor | None = None) -> tuple[Tensor, Tensor]:
    """The product in float64, and the size of the terms that rounding is relative to."""
    weight = unpack(packed).double()
    y, size = x.double() @ weight.t(), x.double().abs() @ weight.abs().t() + 1e-6
    return (y, size) if bias is None else (y + bias.double(), size + bias.double().abs())


def assert_close(got: Tensor, x: Tensor, packed: Packed, bias: Tensor | None = None) -> None:
    y, size = wanted(x, packed, bias)
    # Past the native batch torch rounds the product, then the sum with the bias: twice 2e-3.
    tolerance = {FLOAT: 2e-6, HALF: 6e-3, torch.float16: 1e-3, torch.float64: 1e-14}[got.dtype]
    assert got.shape == y.shape
    assert bool(((got.double() - y).abs() <= tolerance * size).all())


@st.composite
def cases(draw: st.DrawFn) -> tuple[Packed, Tensor, Tensor | None]:
    layout = draw(st.sampled_from(["dense", "bitmask", "nm", "csr", "condensed"]))
    height = draw(st.integers(1, 40))
    m = draw(st.sampled_from([1, 2, 3, 4, 7, 8, 9, 33]))
    width = m * draw(st.integers(1, 40)) if layout == "nm" else draw(st.integers(1, 300))
    torch.manual_seed(draw(st.integers(0, 1 << 30)))
    weight, score = torch.randn(height, width), torch.rand(height, width)
    support = Support.of(score < draw(st.sampled_from([0.0, 0.1, 0.5, 0.9, 1.0])))
    if layout == "nm":
        support = select(score, nm(draw(st.integers(1, m)), m))
    if layout == "condensed":
        support = select(score, rows(), Keep.count(draw(st.integers(0, width))))
    packed = pack(weight, support, layout, draw(st.sampled_from([FLOAT, HALF])))
    x = torch.randn(draw(st.sampled_from([1, 1, 2, 3, 5, 9, 17, 64, 65, 130])), width)
    bias = torch.randn(height) if draw(st.booleans()) else None
    return packed, x.to(draw(st.sampled_from([FLOAT, HALF]))), bias


@pytest.mark.parametrize("name", ISAS)
@given(case=cases())
@settings(max_examples=150, deadline=None)
def test_every_layout_equals_the_dense_product(
    name: str, case: tuple[Packed, Tensor, Tensor | None]
) -> None:
    packed, x, bias = case
    before = native.isa()
    if native.core is not None:
        native.set_isa(name)
    got = linear(x, packed, bias)
    if native.core is not None:
        native.set_isa(before)
    assert got.dtype == (FLOAT if FLOAT in (x.dtype, packed.dtype) else HALF)
    assert_close(got, x, packed, bias)


@pytest.mark.parametrize("layout", ["bitmask", "csr"])
def test_rows_of_very_different_fill(isa: str, layout: str) -> None:
    mask = torch.rand(37, 513) < torch.linspace(0, 1, 37)[:, None] ** 3
    mask[5], mask[6], mask[-1], mask[0] = False, True, True, False
    packed = pack(torch.randn(37, 513), Support.of(mask), layout, HALF)
    x = torch.randn(1, 513)
    assert_close(linear(x, packed), x, packed)


def test_columns_past_sixteen_bits(isa: str) -> None:
    width = (1 << 16) + 9
    support = Support.of(torch.rand(3, width) < 0.01)
    for layout in ("csr", "bitmask"):
        packed = pack(torch.randn(3, width), support, layout)
        x = torch.randn(1, width)
        assert_close(linear(x, packed), x, packed)


def test_any_leading_shape_and_stride(isa: str) -> None:
    packed = pack(torch.randn(6, 10), layout="bitmask")
    x = torch.randn(10, 3, 2).permute(2, 1, 0)
    assert linear(x, packed).shape == (2, 3, 6)
    assert_close(linear(x, packed).flatten(0, 1), x.flatten(0, 1), packed)
    assert_close(linear(x[0, 0], packed)[None], x[0, :1], packed)
    every_other = torch.randn(4, 20)[::2, ::2]
    assert_close(linear(every_other, packed), every_other, packed)
    assert linear(torch.randn(0, 10), packed).shape == (0, 6)
    assert linear(torch.randn(3, 0, 10), packed).shape == (3, 0, 6)


def test_matrices_without_rows_columns_or_values(isa: str) -> None:
    assert linear(torch.randn(2, 5), pack(torch.zeros(0, 5), layout="bitmask")).shape == (2, 0)
    for layout in ("bitmask", "csr", "condensed"):
        bias = torch.randn(3)
        assert torch.equal(linear(torch.randn(5), pack(torch.zeros(3, 5), layout=layout), bias),
                           bias)
        empty = pack(torch.zeros(3, 0), layout=layout)
        assert torch.equal(linear(torch.randn(2, 0), empty), torch.zeros(2, 3))


def test_non_finite_weights_reach_their_row_alone(isa: str) -> None:
    weight = torch.randn(9, 64)
    weight[weight.abs() < 0.6] = 0
    weight[2, 3], weight[7, 60] = float("nan"), float("inf")
    for layout in ("bitmask", "csr"):
        for batch in (1, 4):
            y = linear(torch.ones(batch, 64), pack(weight, layout=layout, dtype=HALF))
            assert bool(y[:, 2].isnan().all())
            assert bool(y[:, 7].isinf().all())
            assert bool(y[:, [0, 1, 3, 4, 5, 6, 8]].isfinite().all())


def test_rounding_to_bfloat16_is_to_nearest_even(isa: str) -> None:
    value = torch.tensor([[1.0, 2**-8], [1.0, 3 * 2**-8], [1.0, float("nan")], [3e38, 3e38]])
    got = linear(torch.ones(1, 2, dtype=HALF), pack(value, layout="bitmask", dtype=HALF))
    sums = value.to(HALF).float().sum(1)
    assert torch.equal(got[0].nan_to_num(7.0), sums.to(HALF).nan_to_num(7.0))


@pytest.mark.parametrize("dtype", [FLOAT, HALF])
def test_large_batches_expand_block_by_block(isa: str, dtype: torch.dtype) -> None:
    support = Support.of(torch.rand(150, 20_000) < 0.01)  # blocks of 64 rows
    packed, bias = pack(torch.randn(150, 20_000), support, "csr", HALF), torch.randn(150)
    x = torch.randn(65, 20_000).to(dtype)
    assert_close(linear(x, packed, bias), x, packed, bias)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float16])
def test_other_dtypes_take_the_reference(dtype: torch.dtype) -> None:
    packed = pack(torch.randn(5, 12), layout="csr", dtype=dtype)
    x = torch.randn(3, 12, dtype=dtype)
    assert_close(linear(x, packed), x, packed)
    assert explain(x, packed).startswith("reference")


def test_threads_do_not_change_a_bit(isa: str) -> None:
    support = Support.of(torch.rand(301, 1000) < 0.5)
    before = torch.get_num_threads()
    uneven = Support.of(torch.rand(301, 1000) < torch.rand(301, 1) ** 3)
    cases = [("bitmask", support, HALF), ("dense", support, HALF)]
    cases += [("csr", uneven, dtype) for dtype in (HALF, FLOAT)]
    for layout, kept, dtype in cases:
        packed = pack(torch.randn(301, 1000), kept, layout, dtype)
        for batch in (1, 7):
            x, results = torch.randn(batch, 1000), []
            for threads in (1, 2, 5):
                torch.set_num_threads(threads)
                results.append(linear(x, packed))
            torch.set_num_threads(before)
            assert torch.equal(results[0], results[1])
            assert torch.equal(results[0], results[2])


@pytest.mark.skipif(native.core is None, reason="needs the compiled kernels")
def test_explain_names_the_kernel_and_the_reason() -> None:
    packed = pack(torch.randn(4, 8), layout="bitmask", dtype=HALF)
    assert explain(torch.randn(2, 8), packed).startswith(f"{native.isa()} kernel for bitmask")
    assert "then torch's dense product" in explain(torch.randn(65, 8), packed)
    assert "not on meta" in explain(torch.randn(2, 8, device="meta"), packed.to("meta"))
    dense = pack(torch.randn(4, 8), layout="dense")
    assert "torch's own product" in explain(torch.randn(2, 8), dense)


def test_bad_input_is_one_clear_sentence() -> None:
    packed = pack(torch.randn(4, 8), layout="bitmask")
    with pytest.raises(UnsupportedError, match=r"\[\.\.\., 8\], not torch.float32 of shape \(2, 7"):
        linear(torch.randn(2, 7), packed)
    with pytest.raises(UnsupportedError, match="int64"):
        linear(torch.ones(2, 8, dtype=torch.int64), packed)
    with pytest.raises(UnsupportedError, match=r"bias of shape \(4,\)"):
        linear(torch.randn(2, 8), packed, torch.randn(5))
    with pytest.raises(UnsupportedError):
        linear(torch.tensor(1.0), packed)
    with pytest.raises(UnsupportedError, match="meta"):
        linear(torch.randn(2, 8, device="meta"), packed)
    with pytest.raises(GossamerError):
        explain(torch.randn(2, 7), packed)
    with pytest.raises(ConfigError, match="instruction set"):
        native.set_isa("sse9")


def test_damaged_parts_never_reach_a_kernel() -> None:
    packed = pack(torch.randn(4, 8), layout="csr")
    parts = dict(packed.parts, columns=torch.full((32,), 9).to(torch.uint16))
    with pytest.raises(SupportError, match="names column 9"):
        linear(torch.randn(1, 8), Packed("csr", (4, 8), parts))


def test_a_bias_without_memory_or_meaning_is_refused() -> None:
    packed, x = pack(torch.randn(4, 8), layout="bitmask"), torch.randn(1, 8)
    # Taken for no bias at all by a kernel that is given its null address.
    with pytest.raises(UnsupportedError, match="The bias is on meta"):
        linear(x, packed, torch.randn(4, device="meta"))
    for bias in (torch.ones(4, dtype=torch.int64), torch.ones(4, dtype=torch.complex64),
                 torch.ones(4).to_sparse()):
        with pytest.raises(UnsupportedError, match="dense float bias"):
            linear(x, packed, bias)
    for wrong in (x.to(torch.float8_e4m3fn), x.to_sparse()):
        with pytest.raises(UnsupportedError, match="dense float input"):
            linear(wrong, packed)


def test_a_tensor_that_is_negated_when_read_is_read_so(isa: str) -> None:
    packed, x, bias = pack(torch.randn(4, 8), layout="csr"), torch.randn(1, 8), torch.randn(4)
    wanted = linear(x, packed, bias)
    assert torch.equal(linear(torch._neg_view(-x), packed, torch._neg_view(-bias)), wanted)


def test_explain_checks_the_parts_too() -> None:
    parts = dict(pack(torch.randn(4, 8), layout="csr").parts, row_counts=torch.ones(2, 2).int())
    with pytest.raises(SupportError):
        explain(torch.randn(1, 8), Packed("csr", (4, 8), parts))
