"""group_nm: N of M columns kept, rows sorted by which N, so that values need no index of their own.

A chunk of P g rows, P = C(M, N), holds in each run of M columns g rows of every pattern
(`gossamer.core.grouped`). Parts: values ``[chunks, runs, P, g, N]``; order int16
``[chunks, runs, P g]``: the row of the chunk in each slot, ascending inside a pattern. Rows and
columns beyond the matrix are zeros. A row that keeps fewer than N is filled with zeros.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from gossamer.core import PatternError, Support, SupportError
from gossamer.core import group_nm as group_pattern
from gossamer.core.grouped import Grid, arrange, grid, in_runs, out_of_runs, table
from gossamer.layout.packed import Layout, Packed, expect


def cut_of(packed: Packed) -> Grid | None:
    """How the packed matrix is cut, read from the shape of its values; None where none fits."""
    if packed.values.dim() != 5 or 0 in packed.values.shape:
        return None
    patterns, g, n = packed.values.shape[2:]
    m = n
    while math.comb(m, n) < patterns:
        m += 1
    found = grid(packed.shape, n, m, g)
    return found if tuple(packed.values.shape[:3]) == (found.chunks, found.runs, patterns) and (
        patterns == found.patterns) else None


def _known_cut(packed: Packed) -> Grid:
    cut = cut_of(packed)
    if cut is None:
        raise SupportError(
            f"Values of shape {tuple(packed.values.shape)} do not make a group_nm matrix of shape "
            f"{packed.shape}."
        )
    return cut


def _kept(order: Tensor, cut: Grid, shape: tuple[int, int]) -> Tensor:
    """Boolean ``[rows, cols]`` of what the slots hold."""
    patterns = table(cut.n, cut.m).to(order.device).repeat_interleave(cut.g, 0)  # [P g, M]
    tiled = torch.empty(len(order), cut.height, cut.m, dtype=torch.bool, device=order.device)
    tiled.scatter_(1, order[..., None].expand(-1, -1, cut.m),
                   patterns.expand(len(order), -1, -1))
    return out_of_runs(tiled, cut, shape)


def _order(support: Support) -> tuple[Grid, Tensor] | None:
    """The cut and the row in each slot; None where the pattern is another or no order fits.

    What the slots hold in the end gives the same order again, so that packing it anew changes
    nothing.
    """
    if support.pattern.grouped is None or 0 in support.shape:
        return None
    n, m, g = support.pattern.grouped
    cut = grid(support.shape, n, m, g)
    mask = support.mask()
    while True:
        order = arrange(mask, n, m, g)
        if order is None:
            return None
        held = _kept(order, cut, support.shape)
        if torch.equal(held, mask):
            return cut, order
        mask = held


def _pack(weight: Tensor, support: Support) -> dict[str, Tensor]:
    found = _order(support)
    if found is None:
        raise PatternError(
            f"Layout group_nm cannot hold a support of pattern {support.pattern} and shape "
            f"{support.shape}; choose it under a pattern such as 2:4:8, or use bitmask."
        )
    cut, order = found
    order = order.to(weight.device)
    tiled = in_runs(support.apply(weight), cut)
    rows = tiled.gather(1, order[..., None].expand(-1, -1, cut.m))  # slots in order
    patterns = table(cut.n, cut.m).to(weight.device).repeat_interleave(cut.g, 0)
    shape = (cut.chunks, cut.runs, cut.patterns, cut.g, cut.n)
    return {
        "values": rows[patterns.expand(len(rows), -1, -1)].view(shape),
        "order": order.to(torch.int16).view(cut.chunks, cut.runs, cut.height),
    }


def _unpack(packed: Packed) -> Tensor:
    cut = _known_cut(packed)
    patterns = table(cut.n, cut.m).to(packed.device).repeat_interleave(cut.g, 0)
    slots = packed.values.new_zeros(cut.chunks * cut.runs, cut.height, cut.m)
    slots[patterns.expand(len(slots), -1, -1)] = packed.values.flatten()
    order = packed.parts["order"].flatten(0, 1).long()[..., None].expand(-1, -1, cut.m)
    return out_of_runs(torch.zeros_like(slots).scatter_(1, order, slots), cut, packed.shape)


def _support(packed: Packed) -> Support:
    cut = _known_cut(packed)
    mask = _kept(packed.parts["order"].flatten(0, 1).long(), cut, packed.shape)
    return Support.of(mask, group_pattern(cut.n, cut.m, cut.g))


def _nbytes(support: Support, itemsize: int) -> int | None:
    found = _order(support)
    if found is None:
        return None
    cut = found[0]
    return cut.chunks * cut.runs * cut.height * (cut.n * itemsize + 2)


def _check(packed: Packed) -> None:
    cut = _known_cut(packed)
    expect(packed, "values", None, (cut.chunks, cut.runs, cut.patterns, cut.g, cut.n))
    expect(packed, "order", torch.int16, (cut.chunks, cut.runs, cut.height))
    order = packed.parts["order"]
    if order.device.type == "meta":
        return
    every = torch.arange(cut.height, dtype=torch.int16, device=order.device)
    if not bool((order.sort(-1).values == every).all()):
        raise SupportError(
            f"A group_nm matrix must name each of the {cut.height} rows of a chunk once; its "
            "order is damaged."
        )


GROUP_NM = Layout("group_nm", ("values", "order"), _pack, _unpack, _support, _nbytes, _check)
