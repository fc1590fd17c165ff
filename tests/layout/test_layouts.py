"""Every layout: lossless both ways, with exactly the bytes that it says."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from gossamer.core import (
    ConfigError,
    Keep,
    PatternError,
    Support,
    SupportError,
    UnsupportedError,
    nm,
    rows,
    select,
)
from gossamer.core.bits import pack_bits
from gossamer.layout import LAYOUTS, Packed, pack, packed_bytes, support_of, unpack

DTYPES = [torch.float32, torch.bfloat16, torch.float16, torch.float64]


@st.composite
def matrices(draw: st.DrawFn) -> tuple[Tensor, Support]:
    height, width = draw(st.integers(0, 9)), draw(st.integers(0, 41))
    density = draw(st.sampled_from([0.0, 0.1, 0.5, 0.9, 1.0]))
    generator = torch.Generator().manual_seed(draw(st.integers(0, 1 << 30)))
    weight = torch.randn(height, width, generator=generator)
    mask = torch.rand(height, width, generator=generator) < density
    return weight.to(draw(st.sampled_from(DTYPES))), Support.of(mask)


def same(a: Tensor, b: Tensor) -> bool:
    return a.dtype == b.dtype and a.shape == b.shape and torch.equal(
        torch.nan_to_num(a, 7.0), torch.nan_to_num(b, 7.0))


@given(matrices())
@settings(max_examples=150, deadline=None)
@pytest.mark.parametrize("layout", ["dense", "bitmask", "csr", "auto"])
def test_any_support_survives(layout: str, case: tuple[Tensor, Support]) -> None:
    weight, support = case
    packed = pack(weight, support, layout)
    assert same(unpack(packed), support.apply(weight))
    assert packed.nbytes == packed_bytes(layout, support, weight.dtype)
    if packed.layout != "dense":
        assert support_of(packed) == support


@given(matrices(), st.integers(0, 41))
@settings(max_examples=100, deadline=None)
def test_constant_fan_in_survives_in_condensed(case: tuple[Tensor, Support], kept: int) -> None:
    weight, _ = case
    support = select(torch.rand(weight.shape), rows(), Keep.count(min(kept, weight.shape[1])))
    packed = pack(weight, support, "condensed")
    assert same(unpack(packed), support.apply(weight))
    assert support_of(packed) == support
    assert packed.nbytes == packed_bytes("condensed", support, weight.dtype)


def nm_parts_by_sorting(weight: Tensor, mask: Tensor, n: int, m: int) -> dict[str, Tensor]:
    """What nm stores: kept places of each group ascending, filled up with its lowest free ones."""
    grouped = mask.view(len(mask), -1, m)
    order = (~grouped).to(torch.uint8).sort(dim=-1, stable=True).indices
    places = order[..., :n].sort(-1).values
    held = torch.where(mask, weight, weight.new_zeros(())).view(grouped.shape)
    bits = (places.unsqueeze(-1) >> torch.arange((m - 1).bit_length())) & 1
    return {"values": held.gather(-1, places), "index": pack_bits(bits.flatten(1).bool())}


@given(st.integers(1, 6), st.integers(1, 5), st.sampled_from([1, 2, 3, 4, 5, 8, 16, 32, 300]),
       st.data())
@settings(max_examples=200, deadline=None)
def test_nm_stores_what_sorting_the_places_gives(
    height: int, groups: int, m: int, data: st.DataObject
) -> None:
    n = data.draw(st.integers(1, m))
    generator = torch.Generator().manual_seed(data.draw(st.integers(0, 1 << 30)))
    chosen = select(torch.rand(height, groups * m, generator=generator), nm(n, m))
    share = data.draw(st.sampled_from([0.0, 0.5, 1.0]))  # of the groups' places that stay
    mask = chosen.mask() & (torch.rand(height, groups * m, generator=generator) < share)
    weight = torch.randn(height, groups * m, generator=generator)
    weight = torch.where(mask, weight, torch.nan).to(data.draw(st.sampled_from(DTYPES)))
    found = pack(weight, Support.of(mask, nm(n, m)), "nm").parts
    wanted = nm_parts_by_sorting(weight, mask, n, m)
    assert all(torch.equal(found[name], wanted[name]) for name in ("values", "index"))
    assert all(found[name].dtype == wanted[name].dtype for name in ("values", "index"))


@given(st.integers(1, 6), st.integers(1, 5), st.integers(1, 17), st.data())
@settings(max_examples=150, deadline=None)
def test_any_n_of_m_survives(height: int, groups: int, m: int, data: st.DataObject) -> None:
    n = data.draw(st.integers(1, m))
    weight = torch.randn(height, groups * m)
    support = select(torch.rand(height, groups * m), nm(n, m))
    packed = pack(weight, support, "nm", torch.bfloat16)
    assert torch.equal(unpack(packed), support.apply(weight).bfloat16())
    assert support_of(packed) == support
    place_bits = math.ceil(math.log2(m))
    assert packed.nbytes == height * (2 * groups * n + math.ceil(groups * n * place_bits / 8))
    assert packed.nbytes == packed_bytes("nm", support, torch.bfloat16)


def test_short_groups_of_n_of_m_are_filled_with_zeros() -> None:
    weight = torch.tensor([[0.0, 0.0, 0.0, 3.0, 1.0, 0.0, 2.0, 0.0]])
    packed = pack(weight, Support.of(weight != 0, nm(2, 4)), "nm")
    assert torch.equal(unpack(packed), weight)
    assert packed.values.tolist() == [[[0.0, 3.0], [1.0, 2.0]]]
    assert packed.parts["index"].tolist() == [[0 | 3 << 2 | 0 << 4 | 2 << 6]]


def test_the_bytes_of_two_four_and_half_are_nine_bits_a_weight() -> None:
    weight = torch.randn(16, 64)
    support = select(weight.abs(), nm(2, 4))
    for layout in ("nm", "bitmask"):
        assert pack(weight, support, layout, torch.bfloat16).nbytes * 8 == 9 * weight.numel()


def test_parts_are_what_the_format_says() -> None:
    weight = torch.tensor([[1.0, 0.0, 2.0], [0.0, 0.0, 0.0], [0.0, 3.0, 4.0]])
    bitmask = pack(weight, layout="bitmask").parts
    assert bitmask["values"].tolist() == [1, 2, 3, 4]
    assert bitmask["bits"].tolist() == [[5], [0], [6]]
    csr = pack(weight, layout="csr").parts
    assert csr["columns"].dtype == torch.uint16
    assert csr["columns"].tolist() == [0, 2, 1, 2]
    assert csr["row_counts"].tolist() == [2, 0, 2]


def test_wide_matrices_take_wide_columns() -> None:
    weight = torch.zeros(2, (1 << 16) + 1)
    weight[0, -1] = weight[1, 5] = 1.5
    packed = pack(weight, layout="csr")
    assert packed.parts["columns"].dtype == torch.int32
    assert torch.equal(unpack(packed), weight)
    assert pack(weight[:, :-1], layout="csr").parts["columns"].dtype == torch.uint16


def test_non_finite_values_are_kept() -> None:
    weight = torch.tensor([[float("nan"), 0.0, float("inf"), -float("inf")]])
    for layout in ("dense", "bitmask", "csr", "condensed"):
        assert same(unpack(pack(weight, layout=layout)), weight)


def test_kept_zeros_stay_kept() -> None:
    support = Support.of(torch.tensor([[True, False, True, False]]))
    for layout in ("bitmask", "csr", "condensed", "nm"):
        assert support_of(pack(torch.zeros(1, 4), support, layout)) == support


@pytest.mark.parametrize(("density", "best"), [(1.0, "dense"), (0.5, "bitmask"), (0.01, "csr")])
def test_auto_takes_the_fewest_bytes(density: float, best: str) -> None:
    weight = torch.randn(64, 1024)
    support = Support.of(torch.rand(64, 1024) < density) if density < 1 else Support.full(64, 1024)
    packed = pack(weight, support, dtype=torch.bfloat16)
    sizes = [packed_bytes(name, support, torch.bfloat16) for name in LAYOUTS]
    assert packed.layout == best
    assert packed.nbytes == min(size for size in sizes if size is not None)


def test_auto_prefers_two_four_where_it_ties() -> None:
    weight = torch.randn(8, 32)
    assert pack(weight, select(weight.abs(), nm(2, 4)), dtype=torch.bfloat16).layout == "nm"


def test_packing_does_not_touch_or_share_the_weight() -> None:
    weight = torch.randn(4, 8)
    before = weight.clone()
    for layout in ("dense", "bitmask", "csr", "condensed"):
        unpack(pack(weight, layout=layout)).zero_()
        pack(weight, layout=layout).values.zero_()
    assert torch.equal(weight, before)


def test_moving_keeps_everything() -> None:
    packed = pack(torch.randn(4, 8), layout="csr").to("cpu")
    assert isinstance(packed, Packed)
    assert packed.to("meta").values.device.type == "meta"


def test_what_a_layout_cannot_hold_is_refused() -> None:
    ragged = Support.of(torch.tensor([[True, True, False, False], [True, False, False, False]]))
    weight = torch.randn(2, 4)
    assert packed_bytes("condensed", ragged, torch.float32) is None
    assert packed_bytes("nm", ragged, torch.float32) is None
    with pytest.raises(PatternError, match="same count in every row, not 1 to 2"):
        pack(weight, ragged, "condensed")
    with pytest.raises(PatternError, match="different counts"):
        pack(weight, ragged, "nm")


def test_bad_input_is_one_clear_sentence() -> None:
    with pytest.raises(ConfigError, match="did you mean 'bitmask'"):
        pack(torch.randn(2, 2), layout="bitmaks")
    with pytest.raises(ConfigError, match="Unknown layout"):
        packed_bytes("coo", Support.full(2, 2), torch.float32)
    with pytest.raises(SupportError, match="does not fit"):
        pack(torch.randn(2, 2), Support.full(2, 3))
    with pytest.raises(UnsupportedError, match=r"not torch.float32 of \(2, 2, 2\)"):
        pack(torch.randn(2, 2, 2))
    with pytest.raises(UnsupportedError, match="int64"):
        pack(torch.ones(2, 2, dtype=torch.int64))
