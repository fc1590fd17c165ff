"""dense: the matrix itself; the baseline, and the layout of last resort."""

from __future__ import annotations

from torch import Tensor

from gossamer.core import Support
from gossamer.layout.packed import Layout, Packed, expect


def _pack(weight: Tensor, support: Support) -> dict[str, Tensor]:
    return {"values": support.apply(weight).contiguous()}


def _unpack(packed: Packed) -> Tensor:
    return packed.values.clone()


def _support(packed: Packed) -> Support:
    return Support.of(packed.values != 0)


def _nbytes(support: Support, itemsize: int) -> int:
    return support.shape[0] * support.shape[1] * itemsize


def _check(packed: Packed) -> None:
    expect(packed, "values", None, packed.shape)


DENSE = Layout("dense", ("values",), _pack, _unpack, _support, _nbytes, _check)
