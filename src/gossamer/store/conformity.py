"""Which regular patterns a support really follows; every group of every row is looked at."""

from __future__ import annotations

import torch
from torch import Tensor

from gossamer.core import Pattern, PatternError, Support
from gossamer.core.bits import count_bits

# From the strictest to the loosest: each implies the next.
_GROUPED = ((1, 4), (2, 4), (4, 8))


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
    held = [
        f"{n}:{m}" for n, m in _GROUPED
        if cols % m == 0 and int(_group_counts(support.bits, m).max()) <= n
    ]
    return (*held, "rows") if bool((counts == counts[0]).all()) else tuple(held)


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
    return mask[:, : pools * width].reshape(-1, pools, width).sum((0, 2))
