"""nm: N kept in every run of M columns; the place of each inside its run takes log2(M) bits.

Parts: values ``[rows, cols / M, N]``; index uint8 ``[rows, bytes]``: the places (0 to M - 1,
ascending in each group) as one bit stream a row, ceil(log2 M) bits each, least significant bit
first, padded to whole bytes. 2:4 at 16 bits takes 9 bits a weight.

A group with fewer than N kept entries is filled with zeros at its lowest free places.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from gossamer.core import PatternError, Support, SupportError
from gossamer.core import nm as nm_pattern
from gossamer.core.bits import pack_bits, row_bytes, unpack_bits
from gossamer.layout.packed import Layout, Packed, expect

_RUNS = (4, 8, 16, 32, 2)

# Bits of an index that are spread out at a time.
_AT_ONCE = 1 << 22


def place_bits(m: int) -> int:
    """Bits that name one of M places."""
    return (m - 1).bit_length()


def group(packed: Packed) -> tuple[int, int]:
    """``(N, M)`` of the packed matrix, read from the shape of its values."""
    _, groups, kept = packed.values.shape
    return kept, packed.shape[1] // groups if groups else 1


def _index_bytes(cols: int, n: int, m: int) -> int:
    return row_bytes(cols // m * n * place_bits(m))


def _in_groups(matrix: Tensor, m: int) -> Tensor:
    """``[rows, cols]`` seen as ``[rows, cols / M, M]``."""
    return matrix.view(matrix.shape[0], matrix.shape[1] // m, m)


def _fit(support: Support, itemsize: int) -> tuple[int, int] | None:
    """``(N, M)`` under which the support is held: its own pattern, else the exact one of least
    bytes."""
    rows, cols = support.shape
    pattern = support.pattern
    if rows == 0 or cols == 0:
        return None
    if pattern.is_nm:
        n, m = pattern.exact or 0, pattern.pool[1] or 1
        fits = cols % m == 0 and int(_counts(_in_groups(support.mask(), m)).max()) <= n
        return (n, m) if fits else None
    found: list[tuple[int, int, int]] = []
    first = unpack_bits(support.bits[:1], cols)  # one row rules out nearly every M
    for m in (m for m in _RUNS if cols % m == 0):
        n = int(first[0, :m].sum())
        if n and _keeps_exactly(n, m, first) and _keeps_exactly(n, m, support.mask()):
            found.append((cols // m * n * itemsize + _index_bytes(cols, n, m), n, m))
    return min(found)[1:] if found else None


def _keeps_exactly(n: int, m: int, mask: Tensor) -> bool:
    return bool((_counts(_in_groups(mask, m)) == n).all())


def _pack(weight: Tensor, support: Support) -> dict[str, Tensor]:
    fit = _fit(support, weight.element_size())
    if fit is None:
        raise PatternError(
            f"Layout nm cannot hold a support of pattern {support.pattern} and shape "
            f"{support.shape}: the groups of M columns keep different counts; "
            "choose the support under an N:M pattern, or use bitmask."
        )
    n, m = fit
    mask = _in_groups(support.mask().to(weight.device), m)  # [rows, groups, m]
    filled = _filled(mask, n)
    held = weight if filled is mask else support.apply(weight)  # zeros at the places filled up
    kept = _nonzero(filled)
    rows, groups = mask.shape[:2]
    first = torch.arange(0, rows * groups * m, m, device=kept.device).unsqueeze(1)
    narrow = torch.uint8 if m <= 256 else torch.int32
    places = (kept.view(-1, n) - first).to(narrow).view(rows, groups * n)
    bits = mask.new_empty(rows, groups * n, place_bits(m))
    for bit in range(place_bits(m)):
        bits[..., bit] = (places >> bit) & 1
    values = held.flatten().index_select(0, kept).view(rows, groups, n)
    return {"values": values, "index": pack_bits(bits.flatten(1))}


def _counts(mask: Tensor) -> Tensor:
    """Kept places ``[rows, groups]`` of a mask ``[rows, groups, m]``."""
    return mask.sum(-1, dtype=torch.int16 if mask.shape[-1] < 1 << 15 else torch.int32)


def _filled(mask: Tensor, n: int) -> Tensor:
    """The mask ``[rows, groups, m]`` with the lowest free places taken until each group has n."""
    lacking = n - _counts(mask)
    short = lacking > 0
    if not bool(short.any()):
        return mask
    filled = mask.clone()
    some = mask[short]  # [groups that lack, m]
    free = (~some).cumsum(-1, dtype=torch.int32)  # the how-manieth free place each one is
    filled[short] = some | (~some & (free <= lacking[short].unsqueeze(-1)))
    return filled


def _nonzero(mask: Tensor) -> Tensor:
    """Flat positions where the mask is true, ascending, int64."""
    if mask.is_cpu:  # several times as quick as torch's
        return torch.from_numpy(np.flatnonzero(mask.numpy()))
    return mask.flatten().nonzero().flatten()


def _columns(packed: Packed) -> Tensor:
    """int64 ``[rows, groups * N]``: the column of every value."""
    rows, groups, n = packed.values.shape
    _, m = group(packed)
    width = place_bits(m)
    bits = unpack_bits(packed.parts["index"], groups * n * width)
    places = _numbers(bits.view(rows, groups, n, width)).long()
    first = torch.arange(groups, device=bits.device).view(1, groups, 1) * m
    return (places + first).flatten(1)


def _unpack(packed: Packed) -> Tensor:
    dense = packed.values.new_zeros(packed.shape)
    return dense.scatter_(1, _columns(packed), packed.values.flatten(1))


def _support(packed: Packed) -> Support:
    mask = torch.zeros(packed.shape, dtype=torch.bool, device=packed.device)
    return Support.of(mask.scatter_(1, _columns(packed), True), nm_pattern(*group(packed)))


def _nbytes(support: Support, itemsize: int) -> int | None:
    fit = _fit(support, itemsize)
    if fit is None:
        return None
    n, m = fit
    rows, cols = support.shape
    return rows * (cols // m * n * itemsize + _index_bytes(cols, n, m))


def _check(packed: Packed) -> None:
    rows, cols = packed.shape
    if packed.values.dim() != 3 or 0 in packed.values.shape or not cols or (
        cols % packed.values.shape[1]
    ):
        raise SupportError(
            f"The values of an nm matrix of {cols} columns must be [rows, groups, N] with groups "
            f"of equally many columns, not of shape {tuple(packed.values.shape)}."
        )
    n, m = group(packed)
    expect(packed, "values", None, (rows, cols // m, n))
    expect(packed, "index", torch.uint8, (rows, _index_bytes(cols, n, m)))
    if n > m:
        raise SupportError(f"An nm matrix of {cols} columns cannot be {n}:{m}; it is damaged.")
    if packed.device.type != "meta" and not _ascend(packed.parts["index"], n, m, cols // m):
        raise SupportError(
            f"The places of an {n}:{m} matrix must ascend from 0 to {m - 1} in every group, and "
            "zero bits fill the last byte of a row; its index is damaged."
        )


def _ascend(index: Tensor, n: int, m: int, groups: int) -> bool:
    """True where every group's places ascend inside it, and the bits behind the last are zero."""
    width = place_bits(m)
    if width and 8 % (n * width) == 0:  # whole groups in a byte: a table of the good bytes
        every = torch.arange(256, dtype=torch.uint8, device=index.device)[:, None]
        inside = 8 // (n * width)
        last = (groups - 1) % inside + 1
        return all(
            bool(_in_order(every, n, m, count)[torch.bincount(some.flatten(), minlength=256) > 0]
                 .all())
            for some, count in ((index[:, :-1], inside), (index[:, -1:], last))
        )
    step = max(1, _AT_ONCE // max(1, groups * n * max(1, width)))
    return all(
        bool(_in_order(index[first : first + step], n, m, groups).all())
        for first in range(0, len(index), step)
    )


def _in_order(index: Tensor, n: int, m: int, groups: int) -> Tensor:
    """bool ``[rows]``: whether the places of this many groups ascend, and zeros are behind them."""
    used = groups * n * place_bits(m)
    bits = unpack_bits(index, index.shape[1] * 8)
    places = _numbers(bits[:, :used].reshape(len(index), groups, n, -1)).to(torch.int32)
    falls = (places >= m).flatten(1).any(1) | (places.diff(dim=2) <= 0).flatten(1).any(1)
    return ~(falls | bits[:, used:].any(1))


def _numbers(bits: Tensor) -> Tensor:
    """``[..]`` of bits ``[.., width]``, least significant first; uint8 where they fit, else int64.
    """
    kind = torch.uint8 if bits.shape[-1] <= 8 else torch.int64
    shifts = torch.arange(bits.shape[-1], dtype=kind, device=bits.device)
    return (bits.to(kind) << shifts).sum(-1, dtype=kind)


NM = Layout("nm", ("values", "index"), _pack, _unpack, _support, _nbytes, _check)
