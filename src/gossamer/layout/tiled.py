"""tiled: a bitmask whose bits and values lie as the 32 threads of a GPU's warp read them.

The matrix is cut into tiles of 16 rows and 512 columns, the last ones padded. In a tile, thread
4 g + t has rows g and g + 8, and of every 32 columns the eight from 8 t on. Parts: bits uint8
``[tiles down, tiles across, 2, 32, 16]``: for each of its two rows 16 bytes a thread, eight columns
a byte, least significant bit first; values ``[words, 32, 2]``: tile after tile, two values a word,
as many words as the thread with most values needs, zeros after the others' last. A thread's values
are ordered by 128 columns, then by pair of bits in a byte, then by row, byte and bit.

That is bitmask's bytes and the zeros: some 10 to 20 % more values, the fewer the denser the matrix.
"""

from __future__ import annotations

import torch
from torch import Tensor

from gossamer.core import Support, SupportError
from gossamer.core.bits import count_bits, pack_bits, unpack_bits
from gossamer.layout.packed import Layout, Packed, expect

ROWS, COLS = 16, 512
_THREADS, _ENTRIES = 32, 256

# Matrix entries that are brought into another order at a time.
_AT_ONCE = 1 << 24


def tiles(shape: tuple[int, int]) -> tuple[int, int]:
    """Number of tiles, down and across."""
    return -(-shape[0] // ROWS), -(-shape[1] // COLS)


def _to_threads(matrix: Tensor) -> Tensor:
    """``[rows, cols]`` as ``[tiles, thread, entry]``, padded with zeros."""
    rows, cols = matrix.shape
    down, across = tiles((rows, cols))
    padded = torch.nn.functional.pad(matrix, (0, across * COLS - cols, 0, down * ROWS - rows))
    # row: tile, half, g; column: tile, 128 columns, byte, t, pair of bits, bit
    split = padded.view(down, 2, 8, across, 4, 4, 4, 4, 2)
    order = split.permute(0, 3, 2, 6, 4, 7, 1, 5, 8)
    return order.reshape(down * across, _THREADS, _ENTRIES)


def _from_threads(entries: Tensor, shape: tuple[int, int]) -> Tensor:
    """Inverse of `_to_threads`."""
    down, across = tiles(shape)
    split = entries.view(down, across, 8, 4, 4, 4, 2, 4, 2).permute(0, 6, 2, 1, 4, 7, 3, 5, 8)
    return split.reshape(down * ROWS, across * COLS)[: shape[0], : shape[1]]


def _to_bits(entries: Tensor, across: int) -> Tensor:
    """Bits from a mask ``[tiles, thread, entry]``."""
    split = entries.view(-1, across, _THREADS, 4, 4, 2, 4, 2)  # 128 columns, pair, half, byte, bit
    order = split.permute(0, 1, 5, 2, 3, 6, 4, 7)
    return pack_bits(order.reshape(-1, across, 2, _THREADS, 16, 8)).squeeze(-1)


def _from_bits(bits: Tensor) -> Tensor:
    """Mask ``[tiles, thread, entry]`` from bits."""
    split = unpack_bits(bits.unsqueeze(-1), 8).view(-1, 2, _THREADS, 4, 4, 4, 2)
    return split.permute(0, 2, 3, 5, 1, 4, 6).reshape(-1, _THREADS, _ENTRIES)


def _words(bits: Tensor) -> Tensor:
    """int64 ``[tiles]``: words of the longest of each tile's streams."""
    counts = count_bits(bits).sum(2).flatten(0, 1)  # [tiles, thread]
    return (counts.amax(1) + 1) // 2 if counts.numel() else counts.new_zeros(0)


def _totals(words: Tensor) -> Tensor:
    """int64 ``[tiles + 1]``: running totals of words, from zero."""
    return torch.nn.functional.pad(words.cumsum(0), (1, 0))


def _places(mask: Tensor, totals: Tensor) -> Tensor:
    """Where in the flattened values the entries of a mask ``[tiles, thread, entry]`` lie."""
    number = mask.cumsum(-1) - 1
    thread = torch.arange(_THREADS, device=mask.device).view(1, _THREADS, 1)
    word = totals[: mask.shape[0]].view(-1, 1, 1) + number // 2
    return ((word * _THREADS + thread) * 2 + number % 2)[mask]


def _rows_at_once(cols: int) -> int:
    return max(1, _AT_ONCE // (ROWS * max(1, cols))) * ROWS


def _pack(weight: Tensor, support: Support) -> dict[str, Tensor]:
    rows, cols = weight.shape
    down, across = tiles((rows, cols))
    step = _rows_at_once(cols)
    bits = torch.zeros((down, across, 2, _THREADS, 16), dtype=torch.uint8, device=weight.device)
    if bits.numel() == 0:
        return {"values": weight.new_zeros((0, _THREADS, 2)), "bits": bits}
    mask = support.mask().to(weight.device)
    for first in range(0, rows, step):
        some = _to_bits(_to_threads(mask[first : first + step]), across)
        bits[first // ROWS : first // ROWS + some.shape[0]] = some
    totals = _totals(_words(bits))
    values = weight.new_zeros((int(totals[-1]), _THREADS, 2))
    for first in range(0, rows, step):
        kept = _to_threads(mask[first : first + step])
        places = _places(kept, totals[first // ROWS * across :])
        values.view(-1)[places] = _to_threads(weight[first : first + step])[kept]
    return {"values": values, "bits": bits}


def _unpack(packed: Packed) -> Tensor:
    (rows, cols), bits = packed.shape, packed.parts["bits"]
    dense, across = packed.values.new_zeros(packed.shape), bits.shape[1]
    if bits.numel() == 0:
        return dense
    totals, step = _totals(_words(bits)), _rows_at_once(cols)
    for first in range(0, rows, step):
        mask = _from_bits(bits[first // ROWS : (first + step) // ROWS])
        entries = packed.values.new_zeros(mask.shape)
        entries[mask] = packed.values.reshape(-1)[_places(mask, totals[first // ROWS * across :])]
        some = dense[first : first + step]
        some.copy_(_from_threads(entries, (some.shape[0], cols)))
    return dense


def _support(packed: Packed) -> Support:
    if packed.parts["bits"].numel() == 0:
        return Support.of(torch.zeros(packed.shape, dtype=torch.bool, device=packed.device))
    return Support.of(_from_threads(_from_bits(packed.parts["bits"]), packed.shape))


def _nbytes(support: Support, itemsize: int) -> int:
    (rows, cols), total = support.shape, 0
    if rows == 0 or cols == 0:
        return 0
    mask, step = support.mask(), _rows_at_once(cols)
    for first in range(0, rows, step):
        counts = _to_threads(mask[first : first + step]).sum(-1)
        total += int(((counts.amax(1) + 1) // 2).sum())
    down, across = tiles((rows, cols))
    return total * _THREADS * 2 * itemsize + down * across * ROWS * COLS // 8


def _starts(packed: Packed) -> Tensor:
    """int64: the word at which each tile's values begin, then their number of words, and that
    again for every word of the longest stream.

    A kernel must know that length when it is launched; it reads it from the shape, so that it
    need not wait for the device.
    """
    words = _words(packed.parts["bits"])
    known = words.numel() > 0 and words.device.type != "meta"
    longest = int(words.max()) if known else 0
    totals = _totals(words)
    return torch.cat([totals, totals[-1:].expand(longest)])


def longest_stream(starts: Tensor, bits: Tensor) -> int:
    """Words of the longest stream of any tile, from the shapes alone."""
    return starts.shape[0] - bits.shape[0] * bits.shape[1] - 1


def _check(packed: Packed) -> None:
    down, across = tiles(packed.shape)
    words = packed.values.shape[0] if packed.values.dim() else 0
    expect(packed, "values", None, (words, _THREADS, 2))
    expect(packed, "bits", torch.uint8, (down, across, 2, _THREADS, 16))
    bits = packed.parts["bits"]
    if bits.device.type == "meta":
        return
    total = int(_words(bits).sum())
    if total != words:
        raise SupportError(
            f"The bits of a tiled matrix need {total} words of values, not {words}; "
            "the parts do not belong together."
        )
    rows, cols = packed.shape
    if (rows % ROWS or cols % COLS) and bits.numel():
        kept = int(count_bits(bits).sum())
        if kept != _support(packed).nnz:
            raise SupportError("A tiled matrix has bits set beyond its edges; it is damaged.")


TILED = Layout("tiled", ("values", "bits"), _pack, _unpack, _support, _nbytes, _check, _starts)
