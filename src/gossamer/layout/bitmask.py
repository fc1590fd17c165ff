"""bitmask: one bit a weight says where, the kept values lie packed in row-major order.

Parts: values ``[nnz]``; bits uint8 ``[rows, ceil(cols / 8)]``, least significant bit first.
At 16 bits a value that is 16 d + 1 bits a weight at density d.
"""

from __future__ import annotations

import torch
from torch import Tensor

from gossamer.core import Support, SupportError
from gossamer.core.bits import count_bits, row_bytes, unpack_bits
from gossamer.layout.packed import Layout, Packed, expect, row_starts


def _pack(weight: Tensor, support: Support) -> dict[str, Tensor]:
    bits = support.bits.to(weight.device)
    return {"values": weight[unpack_bits(bits, weight.shape[1])], "bits": bits.clone()}


def _unpack(packed: Packed) -> Tensor:
    mask = unpack_bits(packed.parts["bits"], packed.shape[1])
    return packed.values.new_zeros(packed.shape).masked_scatter_(mask, packed.values)


def _support(packed: Packed) -> Support:
    return Support(packed.shape, packed.parts["bits"].clone())


def _nbytes(support: Support, itemsize: int) -> int:
    return support.nnz * itemsize + support.shape[0] * row_bytes(support.shape[1])


def _starts(packed: Packed) -> Tensor:
    return row_starts(count_bits(packed.parts["bits"]))


def _check(packed: Packed) -> None:
    rows, cols = packed.shape
    expect(packed, "values", None, (packed.values.numel(),))
    expect(packed, "bits", torch.uint8, (rows, row_bytes(cols)))
    bits = packed.parts["bits"]
    if bits.device.type == "meta":
        return
    if cols % 8 and bool((bits[:, -1] >> (cols % 8)).any()):
        raise SupportError(f"The bitmask has bits set beyond its {cols} columns; it is damaged.")
    starts = packed.starts
    total = int(starts[-1]) if starts is not None else 0
    if total != packed.values.numel():
        raise SupportError(
            f"The bitmask has {total} bits set for {packed.values.numel()} values; "
            "the parts do not belong together."
        )


BITMASK = Layout("bitmask", ("values", "bits"), _pack, _unpack, _support, _nbytes, _check, _starts)
