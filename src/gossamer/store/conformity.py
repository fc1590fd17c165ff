"""Which regular patterns a support really follows; every group of every row is looked at."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor

from gossamer.core import Pattern, PatternError, Support
from gossamer.core.bits import count_bits, unpack_bits

# From the strictest to the loosest: each implies the next.
_GROUPED = ((1, 4), (2, 4), (4, 8))
# Bytes of packed bits looked at together; counting them takes a hundred times as much.
_TOGETHER = 1 << 18


def conforms(support: Support) -> tuple[str, ...]:
    """Names of the patterns that hold: 1:4, 2:4, 4:8 (at most N in each group), and rows.

    ``rows`` means that all rows keep the same number. A full support conforms to nothing.

    >>> conforms(Support.of(torch.tensor([[True, False, True, False], [False, True] * 2])))
    ('2:4', 'rows')
    """
    rows, cols = support.shape
    counts = support.row_counts()
    if rows * cols == 0 or int(counts.sum()) == rows * cols:
        return ()
    fullest = {m: max(int(_group_counts(bits, m).max()) for bits in _pieces(support))
               for m in (4, 8) if cols % m == 0}
    held = [f"{n}:{m}" for n, m in _GROUPED if m in fullest and fullest[m] <= n]
    return (*held, "rows") if bool((counts == counts[0]).all()) else tuple(held)


def dead_columns(support: Support) -> int:
    """Number of columns that keep nothing."""
    alive = torch.zeros(support.shape[1], dtype=torch.bool, device=support.bits.device)
    for bits in _pieces(support):
        alive |= unpack_bits(bits, support.shape[1]).any(0)
    return int((~alive).sum())


def _pieces(support: Support) -> Iterator[Tensor]:
    """The packed bits, some rows at a time."""
    step = max(1, _TOGETHER // max(1, support.bits.shape[1]))
    for start in range(0, support.shape[0], step):
        yield support.bits[start : start + step]


def _group_counts(bits: Tensor, m: int) -> Tensor:
    """Kept entries of every run of 4 or 8 columns, from packed bits ``[rows, bytes]``."""
    # Bits past the width are never set, so a half byte at a row's end counts as an empty group.
    groups = bits.unsqueeze(-1)
    return count_bits(groups if m == 8 else torch.stack([groups & 15, groups >> 4]))


def broken(support: Support, pattern: Pattern) -> str | None:
    """Why a support does not follow a pattern; None where it does.

    For patterns without a count of their own, full pools (rows, column blocks) must keep equally
    many.
    """
    try:
        support.check(pattern)
    except PatternError as error:
        return str(error)
    height, width = pattern.pool
    if pattern.exact is not None or pattern.unit != (1, 1) or (height, width) == (None, None):
        return None
    counts = support.row_counts() if height == 1 else _column_pools(support, width or 1)
    if counts.numel() == 0 or bool((counts == counts[0]).all()):
        return None
    return f"Pools keep {int(counts.min())} to {int(counts.max())} entries, not equally many."


def _column_pools(support: Support, width: int) -> Tensor:
    mask = support.mask()
    pools = support.shape[1] // width
    return mask[:, : pools * width].reshape(mask.shape[0], pools, width).sum((0, 2))
