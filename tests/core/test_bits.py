"""Packed bits against numpy's, for every width and any strides."""

from __future__ import annotations

import numpy as np
import torch
from hypothesis import given
from hypothesis import strategies as st

from gossamer.core.bits import count_bits, pack_bits, row_bytes, unpack_bits

SHAPES = st.lists(st.integers(0, 4), max_size=2)


@given(SHAPES, st.integers(0, 41), st.integers(0, 1 << 30))
def test_bits_are_those_of_numpy(shape: list[int], cols: int, seed: int) -> None:
    mask = torch.rand(*shape, cols, generator=torch.Generator().manual_seed(seed)) < 0.5
    packed = pack_bits(mask)
    assert packed.shape == (*shape, row_bytes(cols))
    wanted = np.packbits(mask.numpy(), axis=-1, bitorder="little")
    assert packed.dtype == torch.uint8
    assert np.array_equal(packed.numpy(), wanted)
    again = unpack_bits(packed, cols)
    assert torch.equal(again, mask)
    assert again.dtype == torch.bool
    assert again.is_contiguous()
    assert torch.equal(count_bits(packed), mask.sum(-1))


def test_strided_masks_and_bits() -> None:
    mask = torch.rand(24, 16) < 0.5
    assert torch.equal(pack_bits(mask.t()), pack_bits(mask.t().contiguous()))
    assert torch.equal(unpack_bits(pack_bits(mask)[::2], 13), mask[::2, :13])


def test_meta_tensors_have_the_shapes() -> None:
    assert pack_bits(torch.empty(3, 13, dtype=torch.bool, device="meta")).shape == (3, 2)
    bits = torch.empty(3, 2, dtype=torch.uint8, device="meta")
    assert unpack_bits(bits, 13).shape == (3, 13)
