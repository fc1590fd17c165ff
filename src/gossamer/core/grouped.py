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

_PROBLEMS = 1 << 20  # entries of the table that is solved at a time
_SOFTNESS, _PRICINGS, _LEAST_WISH = 0.1, 8, 1e-20


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

    Patterns are priced until they are asked for about equally, each takes the rows that lose most
    without it, and pairs of patterns trade rows until no trade keeps more. What is kept lies
    within a percent of the best assignment.

    Args:
        score: ``[rows, cols]``, without NaN.
    """
    cut = grid((score.shape[0], score.shape[1]), n, m, g)
    patterns = table(n, m).to(score.device)
    exact = score if score.dtype == torch.float64 else score.float()
    runs = in_runs(exact, cut)
    kept = torch.empty(runs.shape, dtype=torch.bool, device=score.device)
    step = max(1, _PROBLEMS // (cut.height * cut.patterns))
    for first in range(0, len(runs), step):
        some = runs[first : first + step]
        scale = some.abs().amax((1, 2), keepdim=True).clamp_min(torch.finfo(some.dtype).tiny)
        worth = (some / scale) @ patterns.to(some.dtype).t()  # [problems, height, P]
        slots = _traded(worth, _dealt(worth - _prices(worth, g), g)).flatten(1)
        held = patterns.repeat_interleave(g, 0)[None].expand(len(some), -1, -1)
        kept[first : first + step].scatter_(1, slots[..., None].expand(held.shape), held)
    return out_of_runs(kept, cut, (score.shape[0], score.shape[1]))


def _prices(worth: Tensor, g: int) -> Tensor:
    """``[problems, 1, P]``: what a pattern must cost for g rows to ask for it, nearly.

    Rows are shared out softly (Sinkhorn's scaling, the exponentials of both sides' prices); a few
    rounds do.
    """
    spread = worth.std((1, 2), correction=0, keepdim=True)
    soft = (_SOFTNESS * spread).clamp_min(torch.finfo(worth.dtype).eps)
    wish = ((worth - worth.amax(2, keepdim=True)) / soft).exp_().clamp_min_(_LEAST_WISH)
    scaling = worth.new_ones(len(worth), worth.shape[2], 1)
    for _ in range(_PRICINGS):
        asked = wish.transpose(1, 2) @ (wish @ scaling).reciprocal()  # [problems, P, 1], unscaled
        scaling = g / asked
    return -soft * scaling.log().transpose(1, 2)


def _dealt(worth: Tensor, g: int) -> Tensor:
    """int64 ``[problems, P, g]``: rows by pattern; each takes those that lose most by the rest."""
    beyond = worth.flip(2).cummax(2).values.flip(2)  # best of this pattern and those after it
    gone = torch.zeros(worth.shape[:2], dtype=torch.bool, device=worth.device)
    slots = []
    for pattern in range(worth.shape[2]):
        loss = worth[..., pattern]
        if pattern + 1 < worth.shape[2]:
            loss = loss - beyond[..., pattern + 1]
        rows = loss.masked_fill(gone, -torch.inf).topk(g, 1).indices
        gone.scatter_(1, rows, True)
        slots.append(rows)
    return torch.stack(slots, 1)


def _traded(worth: Tensor, slots: Tensor) -> Tensor:
    """The slots after trades: any two patterns share out their rows as well as they can."""
    _, patterns, g = slots.shape
    tiny = 1e-6 * worth.abs().amax((1, 2))
    done = slots.clone()
    active = torch.arange(len(slots), device=worth.device)
    # Every trade keeps more than `tiny` or is the last, so this ends.
    while len(active):
        flat = worth[active].flatten(1)
        gain = worth.new_zeros(len(active))
        for pairs in _tournament(patterns):
            places = torch.tensor(pairs, device=worth.device)
            rows = slots[:, places.flatten()].view(len(active), len(pairs), 2 * g)
            own, other = ((rows * patterns + place).flatten(1) for place in places.t()[..., None])
            better = (flat.gather(1, own) - flat.gather(1, other)).view(rows.shape)
            ordered, order = better.sort(dim=2, descending=True, stable=True)
            gain += (ordered[..., :g] - better[..., :g]).sum((1, 2))
            slots[:, places.flatten()] = rows.gather(2, order).view(len(active), -1, g)
        done[active] = slots
        more = gain > tiny[active]
        active, slots = active[more], slots[more]
    return done


@functools.lru_cache(maxsize=64)
def _tournament(players: int) -> tuple[tuple[tuple[int, int], ...], ...]:
    """Rounds in which everybody meets everybody once, nobody twice in a round.

    >>> _tournament(4)
    (((0, 3), (1, 2)), ((0, 2), (3, 1)), ((0, 1), (2, 3)))
    """
    circle = [*range(players), *([-1] if players % 2 else [])]
    rounds = []
    for _ in range(len(circle) - 1):
        pairs = zip(circle[: len(circle) // 2], reversed(circle))
        rounds.append(tuple(pair for pair in pairs if -1 not in pair))
        circle = [circle[0], circle[-1], *circle[1:-1]]
    return tuple(pairs for pairs in rounds if pairs)


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
