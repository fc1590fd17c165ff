"""Kernels where rows share their columns, and ablated rows, against the product in float64."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from gossamer import native
from gossamer.core import Keep, Support, block, channel_groups, group_nm, rows, select
from gossamer.layout import Packed, pack, unpack
from gossamer.ops import explain, linear
from gossamer.ops.linear import fallbacks

FLOAT, HALF = torch.float32, torch.bfloat16
ISAS = native.isas() or ["absent"]
NEW = ("bsr", "channel_groups", "group_nm", "ablated")


def support(draw: st.DrawFn, layout: str) -> Support:
    keep = Keep.fraction(draw(st.sampled_from([1e-6, 0.1, 0.5, 1.0])))
    count = draw(st.integers(1, 9))
    if layout == "bsr":
        height, width = draw(st.sampled_from([
            (2, 1), (4, 4), (16, 16), (3, 5), (8, 1), (1, 9), (8, 8), (24, 11), (40, 16), (64, 64),
        ]))
        shape = (height * count, width * draw(st.integers(1, 9)))
        return select(torch.rand(shape), block(height, width), keep)
    shape = (draw(st.integers(1, 40)), draw(st.integers(1, 90)))
    if layout == "channel_groups":
        size = draw(st.sampled_from([2, 3, 7, 8, 16]))
        groups = -(-shape[0] // size)
        whole = select(torch.rand(groups, shape[1]), rows(), keep).mask()
        return Support.of(whole.repeat_interleave(size, 0)[: shape[0]], channel_groups(size))
    if layout == "group_nm":
        n, m, g = draw(st.sampled_from([(1, 2, 1), (2, 4, 2), (3, 4, 1), (4, 5, 1), (5, 6, 1),
                                        (1, 1, 3), (6, 6, 2)]))
        return select(torch.rand(20 + shape[0], shape[1]), group_nm(n, m, g))
    mask = select(torch.rand(shape), rows(), keep).mask()
    mask[torch.rand(shape[0]) < draw(st.sampled_from([0.0, 0.5, 1.0]))] = False
    return Support.of(mask)


@st.composite
def cases(draw: st.DrawFn) -> tuple[Packed, Tensor, Tensor | None]:
    layout = draw(st.sampled_from(NEW))
    torch.manual_seed(draw(st.integers(0, 1 << 30)))
    kept = support(draw, layout)
    packed = pack(torch.randn(kept.shape), kept, layout, draw(st.sampled_from([FLOAT, HALF])))
    x = torch.randn(draw(st.sampled_from([1, 2, 5, 8, 9, 16, 33, 64, 65, 130])), kept.shape[1])
    bias = torch.randn(kept.shape[0]) if draw(st.booleans()) else None
    if bias is not None:
        bias = bias.to(draw(st.sampled_from([FLOAT, HALF])))
    return packed, x.to(draw(st.sampled_from([FLOAT, HALF]))), bias


@pytest.mark.parametrize("name", ISAS)
@given(case=cases())
@settings(max_examples=250, deadline=None)
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
    weight = unpack(packed).double()
    y, size = x.double() @ weight.t(), x.double().abs() @ weight.abs().t() + 1e-6
    if bias is not None:
        y, size = y + bias.double(), size + bias.double().abs()
    assert got.dtype == (FLOAT if FLOAT in (x.dtype, packed.dtype) else HALF)
    tolerance = 2e-6 if got.dtype == FLOAT else 6e-3
    assert bool(((got.double() - y).abs() <= tolerance * size).all())


def example(layout: str) -> Packed:
    weight = torch.randn(48, 64)
    patterns = {"bsr": block(16, 16), "channel_groups": channel_groups(8),
                "group_nm": group_nm(2, 4, 4), "ablated": rows()}
    return pack(weight, select(weight.abs(), patterns[layout], Keep.fraction(0.5)), layout)


@pytest.mark.skipif(native.core is None, reason="needs the compiled kernels")
@pytest.mark.parametrize("layout", NEW)
def test_kernels_cover_them_and_say_so(layout: str) -> None:
    packed = example(layout)
    with fallbacks() as seen:
        for batch in (1, 100):
            x = torch.randn(2, batch, 64)[:, ::1].transpose(0, 1)
            assert linear(x, packed).shape == (batch, 2, 48)
            assert explain(x, packed).startswith(native.isa())
    assert not seen
    with fallbacks() as seen:
        wide = torch.randn(1, 64, dtype=torch.float64)
        torch.testing.assert_close(linear(wide, packed), wide @ unpack(packed).double().t())
        assert explain(wide, packed).startswith("reference")
    assert sum(seen.values()) == 1


@pytest.mark.parametrize("layout", NEW)
def test_threads_do_not_change_a_bit(layout: str) -> None:
    packed, before, results = example(layout), torch.get_num_threads(), []
    x = torch.randn(130, 64)
    for threads in (1, 2, 5):
        torch.set_num_threads(threads)
        results.append(linear(x, packed))
    torch.set_num_threads(before)
    assert torch.equal(results[0], results[1])
    assert torch.equal(results[0], results[2])


@pytest.mark.parametrize("side", [4, 8, 16, 32, 64])
@pytest.mark.parametrize("dtype", [FLOAT, HALF])
def test_blocks_of_every_size_with_rows_that_have_none(side: int, dtype: torch.dtype) -> None:
    weight = torch.randn(128, 192).to(dtype)
    weight[:64] = 0
    packed = pack(weight, Support.of(weight != 0, block(side, side)), "bsr")
    for batch in (1, 7, 16, 64, 512):
        x = torch.randn(batch, 192)
        y, size = x.double() @ weight.double().t(), x.double().abs() @ weight.double().abs().t()
        assert bool(((linear(x, packed).double() - y).abs() <= 2e-6 * size).all())
        rounded = linear(x.bfloat16(), packed).double()
        assert bool(((rounded - y).abs() <= 1.2e-2 * size).all())


def test_more_inputs_than_stay_near() -> None:
    width = 1 << 14
    mask = (torch.rand(3, width // 16) < 0.01).repeat_interleave(16, 0).repeat_interleave(16, 1)
    packed = pack(torch.randn(48, width), Support.of(mask, block(16, 16)), "bsr")
    x = torch.randn(70, width)
    torch.testing.assert_close(linear(x, packed), x @ unpack(packed).t(), atol=1e-3, rtol=1e-4)


@pytest.mark.parametrize("layout", ["bsr", "channel_groups", "group_nm", "ablated"])
def test_non_finite_inputs_stay_in_their_row(layout: str) -> None:
    packed, x = example(layout), torch.randn(3, 64)
    x[1] = torch.nan
    y = linear(x, packed)
    assert bool(y[[0, 2]].isfinite().all())
    assert bool(y[1].isnan().any())


def test_matrices_without_rows_values_or_inputs() -> None:
    for layout in ("bsr", "channel_groups", "ablated"):
        none = pack(torch.zeros(16, 16), layout=layout)
        bias = torch.randn(16)
        assert torch.equal(linear(torch.randn(3, 16), none, bias), bias.expand(3, 16))
        assert linear(torch.randn(0, 16), none).shape == (0, 16)
    assert linear(torch.randn(2, 5), pack(torch.zeros(0, 5), layout="ablated")).shape == (2, 0)
    assert none.values.shape == (0, 0)


def test_columns_past_sixteen_bits() -> None:
    width = (1 << 16) + 8
    mask = (torch.rand(1, width) < 0.01).repeat_interleave(8, 0)
    packed = pack(torch.randn(8, width), Support.of(mask, channel_groups(8)), "channel_groups")
    assert packed.parts["columns"].dtype == torch.int32
    x = torch.randn(2, width)
    torch.testing.assert_close(linear(x, packed), x @ unpack(packed).t(), atol=1e-3, rtol=1e-4)
