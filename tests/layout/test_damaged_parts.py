"""check_packed refuses parts that contradict one another, before a kernel reads by them."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from gossamer.core import (
    Keep,
    Support,
    SupportError,
    UnsupportedError,
    block,
    channel_groups,
    group_nm,
    nm,
    rows,
    select,
    unstructured,
)
from gossamer.layout import Packed, check_packed, pack, unpack
from gossamer.ops import linear
from tests.held import EXACT

Damage = Callable[[dict[str, Tensor]], object]


def packed(layout: str) -> Packed:
    if layout in ("bsr", "channel_groups", "group_nm"):
        weight = torch.arange(1.0, 73.0).view(6, 12)
        pattern, keep = {
            "bsr": (block(2, 3), Keep.count(5)),
            "channel_groups": (channel_groups(2), Keep.count(5)),
            "group_nm": (group_nm(1, 3, 2), None),
        }[layout]
        return pack(weight, select(weight, pattern, keep), layout)
    weight = torch.arange(1.0, 61.0).view(5, 12)
    if layout == "ablated":
        mask = select(weight, rows(), Keep.count(5)).mask()
        mask[1] = False
        return pack(weight, Support.of(mask), layout)
    pattern, keep = {
        "nm": (nm(2, 6), None), "condensed": (rows(), Keep.count(5)),
    }.get(layout, (unstructured(), Keep.count(23)))
    return pack(weight, select(weight, pattern, keep), layout)


def damaged(layout: str, damage: Damage) -> Packed:
    whole = packed(layout)
    parts = {name: part.clone() for name, part in whole.parts.items()}
    damage(parts)
    return Packed(layout, whole.shape, parts)


def shorten(name: str) -> Damage:
    return lambda parts: parts.update({name: parts[name][:-1]})


def retype(name: str, dtype: torch.dtype) -> Damage:
    return lambda parts: parts.update({name: parts[name].to(dtype)})


def fill(name: str, value: int) -> Damage:
    # torch fills no uint16 in place, so through a copy
    return lambda parts: parts.update(
        {name: torch.full(parts[name].shape, value).to(parts[name].dtype)})


@pytest.mark.parametrize("layout", EXACT)
def test_whole_parts_pass(layout: str) -> None:
    check_packed(packed(layout))


@pytest.mark.parametrize(("layout", "damage"), [
    ("dense", shorten("values")),
    ("dense", retype("values", torch.int32)),
    ("bitmask", shorten("values")),
    ("bitmask", shorten("bits")),
    ("bitmask", fill("bits", 255)),
    ("bitmask", fill("bits", 0)),
    ("bitmask", retype("bits", torch.int32)),
    ("nm", shorten("values")),
    ("nm", shorten("index")),
    ("nm", fill("index", 255)),
    ("nm", lambda parts: parts.update(values=parts["values"].flatten())),
    ("csr", shorten("values")),
    ("csr", shorten("columns")),
    ("csr", fill("columns", 12)),
    ("csr", retype("columns", torch.int32)),
    ("csr", shorten("row_counts")),
    ("csr", fill("row_counts", 5)),
    ("csr", lambda parts: parts["row_counts"][:2].copy_(torch.tensor([-1, 13]))),
    ("condensed", shorten("values")),
    ("condensed", fill("columns", 65535)),
    ("bsr", shorten("values")),
    ("bsr", fill("columns", 4)),
    ("bsr", fill("row_counts", 2)),
    ("bsr", lambda parts: parts["row_counts"][:2].copy_(torch.tensor([-1, 6]))),
    ("bsr", lambda parts: parts.update(values=parts["values"][:, :1])),
    ("bsr", lambda parts: parts.update(values=parts["values"].flatten())),
    ("channel_groups", fill("columns", 12)),
    ("channel_groups", lambda parts: parts.update(values=parts["values"][..., :1])),
    ("channel_groups", lambda parts: parts.update(values=parts["values"][:, :-1])),
    ("ablated", fill("columns", 12)),
    ("ablated", fill("active", 5)),
    ("ablated", fill("active", 1)),
    ("ablated", lambda parts: parts.update(values=parts["values"].flatten())),
    ("group_nm", fill("order", 0)),
    ("group_nm", fill("order", 6)),
    ("group_nm", retype("order", torch.int32)),
    ("group_nm", lambda parts: parts.update(values=parts["values"][:, :, :2])),
    ("group_nm", lambda parts: parts.update(values=parts["values"].flatten())),
])
def test_damage_is_named(layout: str, damage: Damage) -> None:
    with pytest.raises(SupportError):
        check_packed(damaged(layout, damage))


def descend(name: str) -> Damage:
    # flip takes no uint16
    return lambda parts: parts.update(
        {name: parts[name].int().flip(-1).to(parts[name].dtype)})


@pytest.mark.parametrize(("layout", "damage"), [
    ("csr", descend("columns")),
    ("csr", fill("columns", 3)),
    ("condensed", descend("columns")),
    ("condensed", fill("columns", 3)),
    ("ablated", descend("columns")),
    ("channel_groups", fill("columns", 3)),
    ("bsr", fill("columns", 2)),
    ("nm", fill("index", 0)),
])
def test_a_column_that_stands_twice_is_no_matrix(layout: str, damage: Damage) -> None:
    # A kernel would add both values, unpacking would keep one of them.
    with pytest.raises(SupportError, match="ascend"):
        check_packed(damaged(layout, damage))


def test_bits_behind_the_last_place_are_zero() -> None:
    whole = pack(torch.randn(2, 4), select(torch.rand(2, 4), nm(2, 4)), "nm")
    check_packed(whole)
    index = whole.parts["index"] | 0x40
    with pytest.raises(SupportError, match="zero bits"):
        check_packed(Packed("nm", (2, 4), dict(whole.parts, index=index)))


@pytest.mark.parametrize("layout", EXACT)
def test_parts_lie_on_one_device_as_plain_tensors(layout: str) -> None:
    # A kernel would be called with the null address of a tensor without memory.
    for name in packed(layout).parts:
        damages: list[Damage] = [
            lambda parts, n=name: parts.update({n: parts[n].to("meta")}),
            lambda parts, n=name: parts.update({n: None}),
            lambda parts: parts.update(more=torch.ones(1)),
        ]
        for damage in damages[1 if layout == "dense" else 0 :]:
            with pytest.raises(SupportError):
                check_packed(damaged(layout, damage))
    for values in (torch._neg_view(packed(layout).values), packed(layout).values.to_sparse()):
        with pytest.raises(SupportError, match="plain dense tensor"):
            check_packed(damaged(layout, lambda parts, v=values: parts.update(values=v)))


@pytest.mark.parametrize("shape", [
    (5,), (5, 12, 1), (-5, 12), (5.0, 12), (True, 12), (1 << 31, 12), (5, 1 << 62), ("5", 12),
])
def test_sides_that_no_matrix_has(shape: tuple[int, int]) -> None:
    for layout in EXACT:
        with pytest.raises(SupportError):
            check_packed(Packed(layout, shape, packed(layout).parts))


def test_an_nm_matrix_without_columns_is_none() -> None:
    parts = packed("nm").parts
    for cols in (0, 1):
        with pytest.raises(SupportError, match="groups of equally many columns"):
            check_packed(Packed("nm", (5, cols), parts))


@pytest.mark.parametrize("layout", EXACT)
def test_strided_parts_are_read_as_they_stand(layout: str) -> None:
    whole = packed(layout)
    strided = {
        name: torch.stack([part, part], -1)[..., 0] for name, part in whole.parts.items()
    }
    other, x = Packed(layout, whole.shape, strided), torch.randn(2, whole.shape[1])
    assert torch.equal(unpack(other), unpack(whole))
    torch.testing.assert_close(linear(x, other), linear(x, whole))


@pytest.mark.parametrize("dtype", [torch.float8_e4m3fn, torch.float8_e5m2])
def test_values_of_eight_bits_are_refused(dtype: torch.dtype) -> None:
    with pytest.raises(SupportError, match="16 bits"):
        check_packed(Packed("dense", (2, 2), {"values": torch.ones(2, 2).to(dtype)}))
    with pytest.raises(UnsupportedError, match="16 bits"):
        pack(torch.ones(2, 2), layout="dense", dtype=dtype)


def test_a_missing_part_is_named() -> None:
    with pytest.raises(SupportError, match="lacks the part 'bits'"):
        check_packed(Packed("bitmask", (2, 2), {"values": torch.ones(1)}))
