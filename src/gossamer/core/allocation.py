"""Allocation: how many weights each site keeps, so that the whole model meets its density.

Every allocation is a function of summaries and a density, and returns whole numbers that add up
to exactly ``round(density * weights)``. No site gets more than it has, and none gets less than
one weight a row as long as the budget allows that; below, sites share it by their rows.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType

import torch
from torch import Tensor

from gossamer.core.errors import ConfigError, DataError, unknown
from gossamer.core.keep import Keep
from gossamer.core.sketch import Sketch


@dataclass(frozen=True, eq=False)
class SiteSummary:
    """What an allocation may know of a site.

    Args:
        shape: rows and columns.
        sketch: histogram of the site's scores; `global_` needs it.
        outlier_ratio: share of scores far above the mean; `owl` needs it.
    """

    shape: tuple[int, int]
    sketch: Sketch | None = None
    outlier_ratio: float | None = None


Summaries = Mapping[str, SiteSummary]
Allocation = Callable[[Summaries, float], dict[str, int]]


def uniform(summaries: Summaries, density: float) -> dict[str, int]:
    """The same density at every site.

    >>> uniform({"a": SiteSummary((2, 8)), "b": SiteSummary((4, 8))}, 0.5)
    {'a': 8, 'b': 16}
    """
    budget = _budget(summaries, density)
    return budget.named(share(budget.sizes, budget.total, budget.floor, budget.sizes))


def erk(summaries: Summaries, density: float) -> dict[str, int]:
    """Kept weights in proportion to rows + columns (Erdos-Renyi), full sites capped.

    What a capped site cannot take goes to the others in the same proportion (Evci et al. 2020,
    arXiv 1911.11134; for matrices the kernel terms of Erdos-Renyi-Kernel are empty).
    """
    budget = _budget(summaries, density)
    sides = torch.tensor([sum(s.shape) for s in summaries.values()])
    return budget.named(share(sides, budget.total, budget.floor, budget.sizes))


def global_(summaries: Summaries, density: float) -> dict[str, int]:
    """As many as one threshold over the scores of all sites would keep of each.

    Sketches hide the order inside a bin, so the bin that holds the threshold (scores within
    0.4 % of one another) is shared out by how many scores each site has there: a site's count
    is off by at most that number.
    """
    budget = _budget(summaries, density)
    sketches = [_sketch(name, summary) for name, summary in summaries.items()]
    first, last = min(s.first for s in sketches), max(s.last for s in sketches)
    counts = torch.stack([s.over(first, last) for s in sketches])  # [sites, bins]
    tails = counts.flip(1).cumsum(1).flip(1)  # scores in this bin and all above
    tails = torch.nn.functional.pad(tails, (0, 1)).maximum(budget.floor[:, None])
    cut = int((tails.sum(0) > budget.total).sum())
    base = tails[:, cut]
    room = tails[:, max(cut - 1, 0)] - base
    rest = budget.total - int(base.sum())
    return budget.named(base + share(room, rest, torch.zeros_like(room), room))


def owl(summaries: Summaries, density: float, spread: float = 0.08) -> dict[str, int]:
    """Densities that grow with a site's outlier ratio, within ``density`` +- ``spread``.

    Outlier weighed layerwise sparsity (Yin et al. 2023, arXiv 2310.05175): ratios are scaled to
    a range of 2 x spread and shifted to the wanted mean. The paper gives all matrices of a
    transformer block the ratio of the block; do the same by repeating it. Unlike the paper's
    code, the mean is weighted by size, so the budget is exact, and the bounds really hold.
    """
    budget = _budget(summaries, density)
    ratios = torch.tensor([_ratio(n, s) for n, s in summaries.items()], dtype=torch.float64)
    width = float(ratios.max() - ratios.min())
    scaled = (ratios - ratios.min()) * (2 * spread / width) if width > 0 else 0 * ratios
    low, high = max(density - spread, 0.0), min(density + spread, 1.0)

    def densities(shift: float) -> Tensor:
        return (scaled + shift).clamp(low, high)

    shift = _bisect(lambda s: float((densities(s) * budget.sizes).sum()) > budget.total,
                    low - 2 * spread, high)
    targets = densities(shift) * budget.sizes
    return budget.named(share(targets, budget.total, budget.floor, budget.sizes))


def outlier_ratio(score: Tensor, multiple: float = 5.0) -> float:
    """Share of scores that are greater than ``multiple`` times their mean.

    >>> outlier_ratio(torch.tensor([1.0, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0, 91.0]))
    0.1
    """
    if score.numel() == 0 or not bool(torch.isfinite(score).all()):
        raise DataError("An outlier ratio needs finite scores, at least one of them.")
    limit = multiple * float(score.mean(dtype=torch.float64))
    return int((score > limit).sum()) / score.numel()


ALLOCATIONS: Mapping[str, Allocation] = MappingProxyType(
    {"uniform": uniform, "erk": erk, "global": global_, "owl": owl}
)


def allocate(name: str, summaries: Summaries, density: float) -> dict[str, int]:
    """Kept weights of every site under the allocation of this name.

    Args:
        name: one of `ALLOCATIONS`: uniform, erk, global, owl.
        summaries: one for every site.
        density: share of all weights that is kept, in (0, 1].

    Raises:
        ConfigError: the name is unknown, or there are no sites.
        PatternError: the density lies outside (0, 1].
        DataError: a summary lacks what the allocation needs.
    """
    if name not in ALLOCATIONS:
        raise ConfigError(unknown("allocation", name, ALLOCATIONS))
    return ALLOCATIONS[name](summaries, density)


def share(weights: Tensor, total: int, low: Tensor, high: Tensor) -> Tensor:
    """int64 ``[sites]`` within [low, high] that add up to ``total``, in proportion to weights.

    Webster's method: the next unit goes where (units + 1/2) / weight is smallest, the first site
    where that is equal. So a greater total never takes a unit away from a site.

    Args:
        weights: ``[sites]``, at least 0.
        total: between the sums of low and high.
        low, high: int64 ``[sites]``.
    """
    # A site of weight 0 is served last, rather than never.
    proportion, floor, roof = weights.double().clamp(min=1e-300), low.double(), high.double()

    def at(scale: float) -> Tensor:
        return (proportion * scale + 0.5).floor().maximum(floor).minimum(roof)

    top = 1.0
    while float(at(top).sum()) < total:
        top *= 2
    scale = _bisect(lambda s: float(at(s).sum()) > total, 0.0, top)
    # Stop short of the last units, so that rounding cannot decide who gets them.
    counts = [int(c) for c in at(scale * (1 - 1e-9)).tolist()]
    caps, sides = high.tolist(), proportion.tolist()
    queue = [((n + 0.5) / sides[i], i) for i, n in enumerate(counts) if n < caps[i]]
    heapq.heapify(queue)
    for _ in range(total - sum(counts)):
        _, i = heapq.heappop(queue)
        counts[i] += 1
        if counts[i] < caps[i]:
            heapq.heappush(queue, ((counts[i] + 0.5) / sides[i], i))
    return torch.tensor(counts, dtype=torch.int64)


@dataclass(frozen=True, eq=False)
class _Budget:
    names: list[str]
    sizes: Tensor
    floor: Tensor
    total: int

    def named(self, counts: Tensor) -> dict[str, int]:
        return dict(zip(self.names, counts.tolist()))


def _budget(summaries: Summaries, density: float) -> _Budget:
    if not summaries:
        raise ConfigError("An allocation needs at least one site.")
    Keep.fraction(density)  # raises outside (0, 1]
    rows = torch.tensor([s.shape[0] for s in summaries.values()])
    sizes = rows * torch.tensor([s.shape[1] for s in summaries.values()])
    total = round(density * int(sizes.sum()))
    floor = torch.minimum(rows, sizes)
    if total < int(floor.sum()):
        floor = share(rows, total, torch.zeros_like(rows), floor)
    return _Budget(list(summaries), sizes, floor, total)


def _sketch(name: str, summary: SiteSummary) -> Sketch:
    size = summary.shape[0] * summary.shape[1]
    if summary.sketch is None:
        raise DataError(f"{name}: allocation global needs a sketch of the scores.")
    if summary.sketch.total != size:
        raise DataError(f"{name}: the sketch counts {summary.sketch.total} scores, not {size}.")
    return summary.sketch


def _ratio(name: str, summary: SiteSummary) -> float:
    ratio = summary.outlier_ratio
    if ratio is None or not 0 <= ratio <= 1:
        raise DataError(f"{name}: allocation owl needs an outlier ratio in [0, 1], not {ratio}.")
    return ratio


def _bisect(too_much: Callable[[float], bool], low: float, high: float) -> float:
    """The greatest value that is not too much, as far as float64 can tell."""
    for _ in range(200):
        middle = (low + high) / 2
        if too_much(middle):
            high = middle
        else:
            low = middle
    return low
