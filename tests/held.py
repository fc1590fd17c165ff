"""For every layout of the house a support that it holds."""

from __future__ import annotations

from torch import Tensor

from gossamer.core import (
    Keep,
    Support,
    block,
    channel_groups,
    group_nm,
    nm,
    rows,
    select,
    unstructured,
)
from gossamer.layout import LAYOUTS

# Layouts that hold any weight, with values of a float type.
EXACT = [name for name, layout in LAYOUTS.items() if layout.any_weight]


def held(layout: str, score: Tensor, density: float = 0.5) -> Support:
    """About this share of the entries, best score first, under a pattern of the layout.

    Sides must be multiples of 2, of 4 for nm; group_nm keeps half.
    """
    keep = Keep.fraction(density)
    if layout == "dense":
        return Support.full(*score.shape)
    if layout.startswith("nm"):
        return select(score, nm(2, 4))
    if layout == "group_nm":
        return select(score, group_nm(1, 2, 2))
    if layout == "ablated":
        mask = select(score, rows(), keep).mask()
        mask[::3] = False
        return Support.of(mask)
    patterns = {"condensed": rows(), "bsr": block(2, 4), "channel_groups": channel_groups(2)}
    return select(score, patterns.get(layout, unstructured()), keep)
