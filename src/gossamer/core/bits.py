"""Masks packed eight to a byte, least significant bit first, each row padded to whole bytes."""

from __future__ import annotations

import torch
from torch import Tensor


def row_bytes(cols: int) -> int:
    """Bytes that one packed row of ``cols`` bits takes."""
    return (cols + 7) // 8


def pack_bits(mask: Tensor) -> Tensor:
    """Pack a boolean mask ``[..., cols]`` into uint8 ``[..., ceil(cols / 8)]``.

    >>> pack_bits(torch.tensor([[True, False, True]])).tolist()
    [[5]]
    """
    cols = mask.shape[-1]
    padded = torch.nn.functional.pad(mask.to(torch.uint8), (0, row_bytes(cols) * 8 - cols))
    grouped = torch.unflatten(padded, -1, (row_bytes(cols), 8))  # [..., bytes, 8]
    packed: Tensor = grouped[..., 0].clone()
    for bit in range(1, 8):
        packed |= grouped[..., bit] << bit
    return packed


def unpack_bits(bits: Tensor, cols: int) -> Tensor:
    """Inverse of `pack_bits`: uint8 ``[..., ceil(cols / 8)]`` to bool ``[..., cols]``."""
    shifts = torch.arange(8, dtype=torch.uint8, device=bits.device)
    spread = (bits.unsqueeze(-1) >> shifts) & 1  # [..., bytes, 8]
    return spread.flatten(-2)[..., :cols].to(torch.bool)


def count_bits(bits: Tensor) -> Tensor:
    """Number of set bits in each row: uint8 ``[..., bytes]`` to int64 ``[...]``."""
    pairs = bits - ((bits >> 1) & 0x55)
    nibbles = (pairs & 0x33) + ((pairs >> 2) & 0x33)
    return ((nibbles + (nibbles >> 4)) & 0x0F).sum(-1, dtype=torch.int64)
