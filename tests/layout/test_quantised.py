"""Weights on a grid: every code survives, the product is that of the dequantised weights."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from gossamer import store
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
    sites,
    unstructured,
)
from gossamer.layout import LAYOUTS, Packed, check_packed, pack, quantise, support_of, unpack
from gossamer.layout.steps import find_steps
from gossamer.ops import PackedLinear, explain, linear
from gossamer.prune.parts.solver import Budget
from gossamer.prune.parts.sparsegpt import ObsSettings, sparsegpt_layer
from gossamer.testing import check_layer, check_layout

NAMES = ("bitmask_int8", "bitmask_int4", "nm_int8", "nm_int4")


def kept(layout: str, score: Tensor) -> Support:
    if layout.startswith("nm"):
        return select(score, nm(2, 4))
    return select(score, unstructured(), Keep.fraction(0.4))


def on_steps(support: Support, dtype: torch.dtype, most: int = 15) -> Tensor:
    """Whole multiples of a step of its own in every row."""
    generator = torch.Generator().manual_seed(support.nnz)
    high, wide = support.shape
    codes = torch.randint(0, most + 1, (high, wide), generator=generator).float()
    zero = torch.randint(0, most + 1, (high, 1), generator=generator).float()
    scale = torch.rand(high, 1, generator=generator) + 0.01
    return support.apply((codes - zero) * scale + 0.0).to(dtype)


@pytest.mark.parametrize("name", NAMES)
def test_they_are_layouts(name: str) -> None:
    check_layout(LAYOUTS[name], on_steps)


@given(st.sampled_from(NAMES), st.integers(1, 6), st.integers(1, 12), st.integers(0, 1000),
       st.booleans())
@settings(max_examples=120, deadline=None)
def test_every_code_survives(name: str, high: int, groups: int, seed: int, short: bool) -> None:
    torch.manual_seed(seed)
    weight = torch.randn(high, 4 * groups)
    support = kept(name, weight.abs())
    packed = quantise(weight, support, name, 4 if short else None)
    check_packed(packed)
    assert support_of(packed) == support
    scales = packed.parts["scales"].repeat_interleave(4 * groups // packed.parts["scales"].shape[1],
                                                      1)
    error = (unpack(packed) - support.apply(weight)).abs()
    assert bool((error <= scales * (0.5 + 1e-4)).all())
    if not short:  # the grid is found again from the weights alone
        again = pack(unpack(packed), support, name)
        assert torch.equal(unpack(again), unpack(packed))


def test_bytes_are_four_and_eight_bits_a_weight() -> None:
    weight = torch.randn(16, 64)
    support = select(weight.abs(), nm(2, 4))
    scales = 16 * 5
    for name, bits in (("bitmask_int8", 5), ("bitmask_int4", 3), ("nm_int8", 5), ("nm_int4", 3)):
        packed = quantise(weight, support, name)
        assert packed.nbytes - scales == bits * weight.numel() // 8


@pytest.mark.parametrize("bits", [2, 4, 8])
def test_joint_pruning_and_quantisation_is_stored_at_its_width(bits: int) -> None:
    weight, x = torch.randn(24, 64), torch.randn(256, 64)
    solved, support, _ = sparsegpt_layer(
        weight, x.t() @ x, Budget(nm(2, 4), Keep.fraction(0.5)), ObsSettings(bits=bits))
    packed = pack(solved, support, "nm_int8" if bits == 8 else "nm_int4")
    assert torch.equal(unpack(packed), solved)


@pytest.mark.parametrize("name", NAMES)
def test_the_product_is_that_of_the_dequantised_weights(name: str) -> None:
    weight = torch.randn(6, 16)
    support = kept(name, weight.abs())
    packed = quantise(weight, support, name, 8)
    dense = unpack(packed).double()
    layer = PackedLinear(packed, torch.ones(6))
    check_layer(layer, lambda x: x @ dense.t() + 1, torch.randn(4, 16))
    x = torch.randn(3, 16, dtype=torch.float64)
    torch.testing.assert_close(linear(x, packed), x @ dense.t(), atol=1e-12, rtol=1e-12)
    assert explain(x, packed).startswith("reference")
    assert linear(x.bfloat16(), packed).dtype == torch.bfloat16


def test_a_model_is_saved_and_loaded_at_its_width(tmp_path: Path) -> None:
    model = nn.Sequential(nn.Linear(32, 16), nn.ReLU(), nn.Linear(16, 8))
    supports = {}
    for site in sites(model):
        support = select(site.view().abs(), rows(), Keep.fraction(0.5))
        supports[site.name] = support
        site.write(unpack(quantise(site.view(), support, "bitmask_int4")))
    store.save(model, tmp_path / "m", supports, layout="bitmask_int4", dtype=torch.float32)
    loaded = store.load(tmp_path / "m", into=nn.Sequential(
        nn.Linear(32, 16), nn.ReLU(), nn.Linear(16, 8)))
    assert torch.equal(unpack(loaded[0].packed), model[0].weight)
    store.save(loaded, tmp_path / "again", layout="bitmask_int4", dtype=torch.float32)
    assert (tmp_path / "m" / "model.safetensors").read_bytes() == (
        tmp_path / "again" / "model.safetensors").read_bytes()


def test_steps_by_hand_and_what_lies_on_none() -> None:
    found = find_steps(torch.tensor([[0.0, 0.5, -0.75], [0.0, 0.0, 0.0]]), 4)
    assert found is not None
    scales, zeros, codes = found
    torch.testing.assert_close(scales, torch.tensor([0.25, 1.0]))
    assert zeros.tolist() == [3.0, 0.0]
    assert codes.tolist() == [[3.0, 5.0, 0.0], [0.0, 0.0, 0.0]]
    assert find_steps(torch.tensor([[1.0, 1.01, 17.0]]), 4) is None
    assert find_steps(torch.tensor([[1.0, torch.nan]]), 8) is None
    assert find_steps(torch.tensor([[1.0, -0.0]]), 8) is None
    assert find_steps(torch.randn(1, 300), 8) is None


def test_auto_never_rounds() -> None:
    weight = on_steps(Support.full(8, 32), torch.float32)
    assert LAYOUTS[pack(weight).layout].any_weight


def test_bad_input_is_one_clear_sentence() -> None:
    weight, full = torch.randn(4, 8), Support.full(4, 8)
    with pytest.raises(PatternError, match=r"16 even steps in each row.*quantise first"):
        pack(weight, full, "bitmask_int4")
    with pytest.raises(PatternError, match="even steps"):
        pack(torch.ones(4, 8).bfloat16(), full, "bitmask_int8")
    with pytest.raises(ConfigError, match="did you mean 'bitmask_int"):
        quantise(weight, full, "bitmask_int5")
    with pytest.raises(ConfigError, match="run of 3 columns does not divide the 8"):
        quantise(weight, full, "bitmask_int8", 3)
    with pytest.raises(UnsupportedError, match="not finite"):
        quantise(weight * torch.inf, full)
    with pytest.raises(PatternError, match="cannot hold 1 of them"):
        quantise(weight, select(weight, nm(1, 4)), "nm_int4")


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("damage", [
    lambda parts: parts.update(values=parts["values"][..., :-1]),
    lambda parts: parts.update(values=parts["values"].to(torch.int8)),
    lambda parts: parts.update(scales=parts["scales"][:-1]),
    lambda parts: parts.update(scales=parts["scales"][:, :0]),
    lambda parts: parts.update(scales=parts["scales"].expand(-1, 3), zeros=parts["zeros"].expand(
        -1, 3)),
    lambda parts: parts.update(zeros=parts["zeros"].to(torch.int32)),
    lambda parts: parts.update(values=parts["values"].flatten()[0]),
])
def test_damage_is_named(name: str, damage: Callable[[dict[str, Tensor]], None]) -> None:
    packed = quantise(torch.randn(4, 16), kept(name, torch.rand(4, 16)), name)
    parts = dict(packed.parts)
    damage(parts)
    with pytest.raises(SupportError):
        check_packed(Packed(name, (4, 16), parts))
