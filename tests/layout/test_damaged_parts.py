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
    block,
    channel_groups,
    group_nm,
    nm,
    rows,
    select,
    unstructured,
)
from gossamer.layout import Packed, check_packed, pack
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


def test_a_missing_part_is_named() -> None:
    with pytest.raises(SupportError, match="lacks the part 'bits'"):
        check_packed(Packed("bitmask", (2, 2), {"values": torch.ones(1)}))
