"""Grouped N:M: in a chunk of rows every pattern of N in M columns is used by equally many rows.

A chunk has P g rows, P = C(M, N), and each run of M columns keeps N in every row of it, so that
each of the P patterns is taken by g rows (Ivanov et al., "STen: Productive and Efficient Sparsity
in PyTorch", 2023). A kernel then needs no index a value, only the order of the rows. Rows and
columns beyond the matrix count as zeros.
"""

from __future__ import annotations

import functools
import itertools
import math
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn.functional import pad

_PROBLEMS = 1 << 21  # entries of the table that is solved at a time


class Grid(NamedTuple):
    """How a matrix is cut: N, M, rows a pattern, P, chunks of rows and runs of columns."""

    n: int
    m: int
    g: int
    patterns: int
    chunks: int
    runs: int

    @property
    def height(self) -> int:
        """Rows of a chunk."""
        return self.patterns * self.g


def grid(shape: tuple[int, int], n: int, m: int, g: int) -> Grid:
    """The cut of a matrix ``[rows, cols]``; the last chunk and run may overhang it."""
    patterns = math.comb(m, n)
    return Grid(n, m, g, patterns, -(-shape[0] // (patterns * g)), -(-shape[1] // m))


def combinations(n: int, m: int) -> list[tuple[int, ...]]:
    """All choices of N of M places, each ascending, neighbours differing in one place.

    This is the revolving-door order.

    >>> combinations(2, 3)
    [(0, 1), (1, 2), (0, 2)]
    """
    if n == 0:
        return [()]
    if n == m:
        return [tuple(range(m))]
    last = [(*rest, m - 1) for rest in reversed(combinations(n - 1, m - 1))]
    return combinations(n, m - 1) + last


@functools.lru_cache(maxsize=64)
def table(n: int, m: int) -> Tensor:
    """bool ``[P, M]``: the places of every pattern."""
    found = torch.zeros(math.comb(m, n), m, dtype=torch.bool)
    for row, places in enumerate(combinations(n, m)):
        found[row, list(places)] = True
    return found


def in_runs(matrix: Tensor, cut: Grid) -> Tensor:
    """``[rows, cols]``, padded with zeros, as ``[chunks * runs, height, M]``."""
    rows, cols = matrix.shape
    padded = pad(matrix, (0, cut.runs * cut.m - cols, 0, cut.chunks * cut.height - rows))
    tiled = padded.view(cut.chunks, cut.height, cut.runs, cut.m).transpose(1, 2)
    return tiled.reshape(cut.chunks * cut.runs, cut.height, cut.m)


def out_of_runs(tiled: Tensor, cut: Grid, shape: tuple[int, int]) -> Tensor:
    """The matrix that `in_runs` cut."""
    grown = tiled.view(cut.chunks, cut.runs, cut.height, cut.m).transpose(1, 2)
    flat = grown.reshape(cut.chunks * cut.height, cut.runs * cut.m)
    return flat[: shape[0], : shape[1]].contiguous()


def assign(score: Tensor, n: int, m: int, g: int) -> Tensor:
    """Boolean ``[rows, cols]``: which entries are kept, so that their summed score is great.

    Rows take patterns in the order of what they would keep, and pairs of rows swap patterns until
    no swap keeps more. The result is within a few percent of the best assignment.

    Args:
        score: ``[rows, cols]``, without NaN.
    """
    cut = grid((score.shape[0], score.shape[1]), n, m, g)
    patterns = table(n, m).to(score.device)
    runs = in_runs(score.double(), cut)
    kept = torch.empty(runs.shape, dtype=torch.bool, device=score.device)
    step = max(1, _PROBLEMS // (cut.height * cut.patterns))
    for first in range(0, len(runs), step):
        worth = runs[first : first + step] @ patterns.double().t()  # [problems, height, P]
        taken = _swapped(worth, _greedy(worth, g))
        kept[first : first + step] = patterns[taken]
    return out_of_runs(kept, cut, (score.shape[0], score.shape[1]))


def _greedy(worth: Tensor, g: int) -> Tensor:
    """int64 ``[problems, height]``: the pattern of every row, best pairs first."""
    count, height, patterns = worth.shape
    order = worth.flatten(1).argsort(dim=1, descending=True, stable=True)
    room = torch.full((count, patterns), g, device=worth.device)
    taken = torch.full((count, height), -1, device=worth.device)
    every = torch.arange(count, device=worth.device)
    for place in range(height * patterns):
        row, pattern = order[:, place] // patterns, order[:, place] % patterns
        free = (taken[every, row] < 0) & (room[every, pattern] > 0)
        taken[every[free], row[free]] = pattern[free]
        room[every[free], pattern[free]] -= 1
    return taken


def _swapped(worth: Tensor, taken: Tensor) -> Tensor:
    """The patterns after swaps of two rows, the best one of each problem at a time."""
    count, height, patterns = worth.shape
    tiny = 1e-9 * worth.abs().amax((1, 2)).clamp_min(1e-300)
    active = torch.arange(count, device=worth.device)
    # Every swap keeps more, so this ends; the bound is for scores that differ by rounding alone.
    for _ in range(height * height):
        here, now = worth[active], taken[active]
        own = here.gather(2, now[..., None])
        change = here - own  # [problems, height, to]
        best = torch.full((len(active), patterns, patterns), -torch.inf, dtype=here.dtype,
                          device=worth.device)
        place = now[..., None].expand(-1, -1, patterns)
        best.scatter_reduce_(1, place, change, "amax", include_self=True)  # [.., from, to]
        gain, pair = (best + best.transpose(1, 2)).flatten(1).max(1)
        better = gain > tiny[active]
        active, now, change, pair = active[better], now[better], change[better], pair[better]
        if len(active) == 0:
            break
        _exchange(now, change, pair // patterns, pair % patterns)
        taken[active] = now
    return taken


def _exchange(taken: Tensor, change: Tensor, one: Tensor, other: Tensor) -> None:
    """In every problem, swap the rows of the two patterns that gain most."""
    every = torch.arange(len(taken), device=taken.device)
    rows = []
    for here, there in ((one, other), (other, one)):
        gains = change[every, :, there].masked_fill(taken != here[:, None], -torch.inf)
        rows.append(gains.argmax(1))
    taken[every, rows[0]] = other
    taken[every, rows[1]] = one


def arrange(mask: Tensor, n: int, m: int, g: int) -> Tensor | None:
    """int64 ``[chunks * runs, P g]``: which row of the chunk stands in each slot, g to a pattern.

    A row may stand where the pattern holds all that it keeps; None where no order of the rows
    does. Rows of one pattern ascend.
    """
    shape = (mask.shape[0], mask.shape[1])
    cut = grid(shape, n, m, g)
    runs = in_runs(mask, cut)
    patterns = table(n, m).to(mask.device)
    # [problems, height, P]: True where the row keeps nothing outside the pattern
    fits = ~(runs.float() @ (~patterns).float().t()).bool()
    choices = fits.sum(2)
    if bool((choices == 0).any()):
        return None
    taken = torch.where(choices == 1, fits.int().argmax(2), -1)
    _fill_empty(taken, choices == cut.patterns, cut, g)
    for problem in (taken < 0).any(1).nonzero().flatten().tolist():
        found = _matched(fits[problem].tolist(), taken[problem].tolist(), g)
        if found is None:
            return None
        taken[problem] = torch.tensor(found, device=mask.device)
    counts = torch.nn.functional.one_hot(taken, cut.patterns).sum(1)
    return taken.argsort(dim=1, stable=True) if bool((counts == g).all()) else None


def _fill_empty(taken: Tensor, free: Tensor, cut: Grid, g: int) -> None:
    """Rows that keep nothing take what is left over, where no other row is undecided."""
    done = ~((taken < 0) & ~free).any(1)
    ready = (done & (taken < 0).any(1)).nonzero().flatten()
    if len(ready) == 0 or cut.patterns == 1:
        return
    used = torch.nn.functional.one_hot(taken[ready].clamp_min(0), cut.patterns)
    left = g - used.masked_fill((taken[ready] < 0)[..., None], 0).sum(1)  # [problems, P]
    rest = (taken[ready] < 0).sum(1)
    whole = (left >= 0).all(1) & (left.sum(1) == rest)
    for problem, room in zip(ready[whole].tolist(), left[whole]):
        filler = torch.arange(cut.patterns, device=taken.device).repeat_interleave(room)
        taken[problem, taken[problem] < 0] = filler


def _matched(fits: list[list[bool]], taken: list[int], g: int) -> list[int] | None:
    """A pattern for every undecided row, moving others where that makes room; None if impossible.
    """
    patterns = range(len(fits[0]))
    holders: list[list[int]] = [[] for _ in patterns]
    for row, pattern in enumerate(taken):
        if pattern >= 0:
            holders[pattern].append(row)

    def place(row: int, tried: set[int]) -> bool:
        for pattern in itertools.compress(patterns, fits[row]):
            if pattern in tried:
                continue
            tried.add(pattern)
            if len(holders[pattern]) < g:
                holders[pattern].append(row)
                return True
            for other in sorted(holders[pattern]):
                if place(other, tried):
                    holders[pattern].remove(other)
                    holders[pattern].append(row)
                    return True
        return False

    if any(len(rows) > g for rows in holders):
        return None
    for row, pattern in enumerate(taken):
        if pattern < 0 and not place(row, set()):
            return None
    found = list(taken)
    for pattern, rows in enumerate(holders):
        for row in rows:
            found[row] = pattern
    return found
