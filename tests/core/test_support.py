"""Support and its bits: round trips, set algebra, checks."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from gossamer.core import Pattern, PatternError, Support, SupportError, block, nm, rows
from gossamer.core.bits import count_bits, pack_bits, row_bytes, unpack_bits


@st.composite
def masks(draw: st.DrawFn, count: int = 1) -> list[Tensor]:
    high, wide = draw(st.integers(0, 5)), draw(st.integers(0, 20))
    flags = st.lists(st.booleans(), min_size=high * wide, max_size=high * wide)
    return [torch.tensor(draw(flags), dtype=torch.bool).view(high, wide) for _ in range(count)]


@given(masks())
def test_bits_are_numpys_little_endian_bits(drawn: list[Tensor]) -> None:
    (mask,) = drawn
    bits = pack_bits(mask)
    assert bits.shape == (mask.shape[0], row_bytes(mask.shape[1]))
    assert np.array_equal(bits.numpy(), np.packbits(mask.numpy(), axis=1, bitorder="little"))
    assert torch.equal(unpack_bits(bits, mask.shape[1]), mask)
    assert torch.equal(count_bits(bits), mask.sum(1))


def test_every_byte_is_counted() -> None:
    every = torch.arange(256, dtype=torch.uint8)[:, None]
    assert count_bits(every).tolist() == [i.bit_count() for i in range(256)]


@given(masks(count=2))
def test_supports_are_sets(drawn: list[Tensor]) -> None:
    a, b = drawn
    one, two = Support.of(a), Support.of(b)
    assert torch.equal((one & two).mask(), a & b)
    assert torch.equal((one | two).mask(), a | b)
    assert torch.equal((one - two).mask(), a & ~b)
    assert (one - two) | (one & two) == one
    assert (one == two) == torch.equal(a, b)
    assert one.nnz == int(a.sum()) == len(one.indices())
    assert torch.equal(one.row_counts(), a.sum(1))
    assert torch.equal(one.indices(), a.nonzero())


def test_a_support_is_no_dictionary_key_and_equals_only_supports() -> None:
    support = Support.full(2, 2)
    assert support != "full"
    assert support != Support.full(2, 3)
    with pytest.raises(TypeError):
        hash(support)


def test_apply_writes_exact_zeros_even_over_nan() -> None:
    support = Support.of(torch.tensor([[True, False], [False, True]]))
    weight = torch.tensor([[1.5, math.nan], [-math.inf, -0.0]])
    kept = support.apply(weight)
    assert kept[0, 0] == 1.5
    assert kept.masked_select(~support.mask()).tolist() == [0.0, 0.0]
    assert math.copysign(1, float(kept[1, 1])) == -1
    with pytest.raises(SupportError, match=r"\(2, 2\) does not fit a tensor of \(2, 3\)"):
        support.apply(torch.zeros(2, 3))


def test_shapes_must_agree() -> None:
    for combine in (Support.__and__, Support.__or__, Support.__sub__):
        with pytest.raises(SupportError, match="does not fit"):
            combine(Support.full(2, 2), Support.full(3, 2))


def test_damaged_bits_are_refused() -> None:
    with pytest.raises(SupportError, match="must be uint8"):
        Support((2, 9), torch.zeros(2, 1, dtype=torch.uint8))
    with pytest.raises(SupportError, match="must be uint8"):
        Support((2, 8), torch.zeros(2, 1))
    with pytest.raises(SupportError, match="beyond column 8"):
        Support((1, 9), torch.tensor([[0, 2]], dtype=torch.uint8))
    with pytest.raises(SupportError, match="boolean matrix"):
        Support.of(torch.ones(2, 2))


def test_check_finds_what_breaks_a_pattern() -> None:
    mask = torch.tensor([[1, 1, 0, 0, 0, 0, 1, 0], [0, 0, 1, 1, 1, 0, 0, 1]], dtype=torch.bool)
    Support.of(mask).check(nm(2, 4))
    Support.of(mask).check(rows())
    with pytest.raises(PatternError, match="keeps 2 in a group, which is not 1:4"):
        Support.of(mask).check(nm(1, 4))
    with pytest.raises(PatternError, match="cuts through 2x2"):
        Support.of(mask).check(block(2, 2))
    whole = mask[:1].repeat_interleave(2, 0).repeat_interleave(2, 1)
    Support.of(whole).check(block(2, 2))
    with pytest.raises(PatternError, match="keeps 2 in a group"):
        Support.of(whole).check(Pattern(unit=(2, 2), pool=(2, 4), exact=1))
    with pytest.raises(PatternError, match="not a multiple of M=3"):
        Support.of(mask).check(nm(1, 3))


def test_density_of_nothing_is_zero() -> None:
    assert Support.of(torch.zeros(0, 4, dtype=torch.bool)).density == 0
    assert Support.full(3, 9).density == 1
