"""check_layout passes every layout of the house and fails on broken ones."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch import Tensor

from gossamer.core import Support, SupportError
from gossamer.core.bits import unpack_bits
from gossamer.layout import LAYOUTS, Layout, Packed
from gossamer.testing import check_layout
from tests.held import EXACT

BITMASK = LAYOUTS["bitmask"]


@pytest.mark.parametrize("name", EXACT)
def test_the_layouts_of_the_house_pass(name: str) -> None:
    check_layout(LAYOUTS[name])


def rounded(weight: Tensor, support: Support) -> dict[str, Tensor]:
    return BITMASK.pack(weight.half().to(weight.dtype), support)


def without_negative_zero(packed: Packed) -> Tensor:
    return BITMASK.unpack(packed) + 0.0


def transposed(weight: Tensor, support: Support) -> dict[str, Tensor]:
    parts = BITMASK.pack(weight, support)
    return {**parts, "values": weight.t()[support.mask().t()]}


def full(packed: Packed) -> Support:
    return Support.full(*packed.shape)


def nothing(packed: Packed) -> Support:
    return Support.of(torch.zeros(packed.shape, dtype=torch.bool))


def from_one(packed: Packed) -> Tensor:
    starts = BITMASK.starts(packed)
    assert starts is not None
    return starts + 1


def derived(weight: Tensor, support: Support) -> dict[str, Tensor]:
    parts = BITMASK.pack(weight, support)
    return {**parts, "mask": unpack_bits(parts["bits"], weight.shape[1])}


def wasteful(weight: Tensor, support: Support) -> dict[str, Tensor]:
    parts = BITMASK.pack(weight, support)
    return {**parts, "values": torch.cat([parts["values"], parts["values"][:1]])}


def scribbling(weight: Tensor, support: Support) -> dict[str, Tensor]:
    parts = BITMASK.pack(weight, support)
    weight.zero_()
    return parts


def crashing(packed: Packed) -> None:
    try:
        BITMASK.check(packed)
    except SupportError as error:
        raise RuntimeError("shape '[2, -1]' is invalid") from error


BROKEN: dict[str, tuple[Layout, str]] = {
    "rounds": (replace(BITMASK, pack=rounded), "lost something"),
    "signs": (replace(BITMASK, unpack=without_negative_zero), "lost a sign"),
    "order": (replace(BITMASK, pack=transposed), "lost something"),
    "support": (replace(BITMASK, support=nothing), "lacks kept entries"),
    "starts": (replace(BITMASK, starts=from_one), "row starts are wrong"),
    "no starts": (replace(BITMASK, starts=lambda packed: None), "one row for each row"),
    "hidden part": (replace(BITMASK, pack=derived), "the parts are"),
    "bytes": (replace(BITMASK, nbytes=lambda s, size: s.nnz * size), "bytes, promised"),
    "padding": (replace(BITMASK, pack=wasteful), "bytes, promised"),
    "refuses all": (replace(BITMASK, nbytes=lambda s, size: None), "it passed"),
    "believes": (replace(BITMASK, check=lambda packed: None), "without its last entry"),
    "crashes": (replace(BITMASK, check=crashing), "check itself failed"),
    "scribbles": (replace(BITMASK, pack=scribbling), "changed the weight"),
}


@pytest.mark.parametrize("name", BROKEN)
def test_broken_layouts_fail(name: str) -> None:
    layout, message = BROKEN[name]
    with pytest.raises((AssertionError, RuntimeError), match=message):
        check_layout(layout)


def test_a_layout_that_holds_nothing_fails() -> None:
    def refuse(weight: Tensor, support: Support) -> dict[str, Tensor]:
        raise SupportError("no")

    with pytest.raises(AssertionError, match="held none"):
        check_layout(replace(BITMASK, pack=refuse, nbytes=lambda s, size: None))


def test_a_support_that_claims_too_much_packs_differently() -> None:
    with pytest.raises(AssertionError, match="packing again"):
        check_layout(replace(BITMASK, support=full))
