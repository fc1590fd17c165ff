"""Masks packed eight to a byte, least significant bit first, each row padded to whole bytes."""

from __future__ import annotations

import torch
from torch import Tensor

_GATHER = sum(1 << (56 - 7 * i) for i in range(8))


def row_bytes(cols: int) -> int:
    """Bytes that one packed row of ``cols`` bits takes."""
    return (cols + 7) // 8


def pack_bits(mask: Tensor) -> Tensor:
    """Pack a boolean mask ``[..., cols]`` into uint8 ``[..., ceil(cols / 8)]``.

    >>> pack_bits(torch.tensor([[True, False, True]])).tolist()
    [[5]]
    """
    cols = mask.shape[-1]
    width = row_bytes(cols)
    padded = torch.nn.functional.pad(mask.to(torch.uint8), (0, width * 8 - cols))
    # Eight bytes of 0 or 1 as one number; the product moves the i-th of them to bit 56 + i.
    eights = padded.reshape(*mask.shape[:-1], width, 8).contiguous().view(torch.int64).squeeze(-1)
    return ((eights * _GATHER) >> 56).to(torch.uint8)


def unpack_bits(bits: Tensor, cols: int) -> Tensor:
    """Inverse of `pack_bits`: uint8 ``[..., ceil(cols / 8)]`` to bool ``[..., cols]``."""
    shifts = torch.arange(8, device=bits.device)
    spread = (torch.arange(256, device=bits.device).unsqueeze(1) >> shifts) & 1
    # A table of eight bytes for every byte, read as one number each.
    table = spread.to(torch.uint8).view(torch.int64).flatten()
    wide = table.index_select(0, bits.flatten().int()).view(*bits.shape, 1).view(torch.uint8)
    return wide.flatten(-2)[..., :cols].contiguous().view(torch.bool)


def count_bits(bits: Tensor) -> Tensor:
    """Number of set bits in each row: uint8 ``[..., bytes]`` to int64 ``[...]``."""
    pairs = bits - ((bits >> 1) & 0x55)
    nibbles = (pairs & 0x33) + ((pairs >> 2) & 0x33)
    return ((nibbles + (nibbles >> 4)) & 0x0F).sum(-1, dtype=torch.int64)
