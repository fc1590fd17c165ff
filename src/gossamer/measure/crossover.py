"""crossover: the density below which a packed product begins to pay, measured on this machine."""

from __future__ import annotations

import dataclasses
import functools
import math
import os
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from gossamer.core import ConfigError, DataError, Keep, Support, rows, select
from gossamer.core.errors import unknown
from gossamer.layout import LAYOUTS, Packed, layout_of, pack, packed_bytes
from gossamer.measure.environment import environment
from gossamer.measure.hardware.cpu import cache_bytes
from gossamer.ops import explain, linear

OPS = ("linear",)
BATCHES = (1, 4, 16, 64)
DENSITIES = (0.5, 0.1, 0.3, 0.05, 0.7, 0.2)  # where time runs out, the last ones are left out
_ROUNDS, _MOST_ROUNDS = 3, 15
_MOST_LAYERS = 64
_SLOW = 1.5  # a product this much slower than the fastest of its kind is timed twice only
_LARGEST = 1 << 22  # weights that are measured; a larger matrix gives only its first rows
_GAIN = 1.02  # as in verdicts, less than this is called no difference
_HALF = torch.bfloat16

Run = Callable[[], object]


@dataclass(frozen=True)
class Cell:
    """One batch and density: the quickest packed product against the fastest dense one.

    Args:
        batch: inputs.
        density: share of the weights that is kept.
        layout: of the quickest packed product.
        seconds: its least time.
        dense: name of the fastest dense product.
        dense_seconds: its least time, in the same rounds.
    """

    batch: int
    density: float
    layout: str
    seconds: float
    dense: str
    dense_seconds: float

    @property
    def speedup(self) -> float:
        """Dense time over packed time."""
        return self.dense_seconds / self.seconds


@dataclass(frozen=True)
class Crossover:
    """Where sparse begins to pay.

    Args:
        op: linear.
        shape: of the weight that was measured, ``(rows, cols)``.
        cells: what was measured, by batch and falling density.
        complete: False where the budget ended before every cell was measured.
        env: the machine.
    """

    op: str
    shape: tuple[int, int]
    cells: tuple[Cell, ...]
    complete: bool
    env: dict[str, Any]

    @property
    def batches(self) -> list[int]:
        """Batches measured, ascending."""
        return sorted({cell.batch for cell in self.cells})

    @property
    def densities(self) -> list[float]:
        """Densities measured, falling."""
        return sorted({cell.density for cell in self.cells}, reverse=True)

    def cell(self, batch: int, density: float) -> Cell | None:
        """What was measured for one batch and density."""
        return next((c for c in self.cells if (c.batch, c.density) == (batch, density)), None)

    def pays_below(self, batch: int) -> float | None:
        """The density from which on, downwards, packed is quicker by more than 2 per cent.

        Between two measured densities it is interpolated over the logarithm of density; None
        where packed does not pay at the lowest density.
        """
        found = sorted((c for c in self.cells if c.batch == batch), key=lambda c: c.density)
        below: Cell | None = None
        for cell in found:
            if cell.speedup < _GAIN:
                return None if below is None else _between(below, cell)
            below = cell
        return None if below is None else below.density

    def to_json(self) -> dict[str, Any]:
        """As JSON values, with the answers beside the measurements."""
        answers = {str(batch): self.pays_below(batch) for batch in self.batches}
        return {**dataclasses.asdict(self), "pays_below": answers}

    @staticmethod
    def from_json(found: Mapping[str, Any]) -> Crossover:
        """The inverse of `to_json`.

        Raises:
            DataError: something is missing or of another shape.
        """
        try:
            high, wide = found["shape"]
            cells = tuple(Cell(**cell) for cell in found["cells"])
            return Crossover(found["op"], (high, wide), cells, found["complete"], found["env"])
        except (KeyError, TypeError, ValueError) as error:
            raise DataError(f"This is no crossover: {error!r}.") from error

    def plot(self, path: str | os.PathLike[str]) -> Path:
        """Draw speed-up over density, a line a batch, as a PNG; needs matplotlib."""
        from gossamer.measure.crossover_plot import draw

        return draw(self, Path(path))


def crossover(
    op: str = "linear",
    shape: tuple[int, int] = (1536, 576),
    batches: Sequence[int] = BATCHES,
    densities: Sequence[float] = DENSITIES,
    layouts: str | Sequence[str] = "auto",
    budget: float = 60.0,
    progress: Callable[[int, int, str], None] | None = None,
) -> Crossover:
    """Time packed products of random masks against every dense one at hand.

    Weights are stored in bfloat16 and inputs are float32; dense are torch's products in float32
    and in bfloat16, and gossamer's of bfloat16 weights. Every row keeps the same share. Each
    contender goes through a stack of equal layers that, dense, is larger than the cache (shorter
    at large batches and for small layers). Every layer's time is the least of several rounds in
    which all contenders take turns: CPU time where torch uses one thread, else wall time.

    Args:
        op: linear.
        shape: of the weight, ``(rows, cols)``; of one with more than four million entries only
            the first rows are measured.
        batches: inputs.
        densities: shares of the weights that are kept, the most telling first.
        layouts: names, or auto for every one that holds the mask in fewer bytes than dense and
            has a kernel here.
        budget: seconds after which nothing more is begun.
        progress: called with (densities done, densities in all, text).

    Raises:
        ConfigError: a value out of its domain, or a budget that one cell used up.

    >>> found = crossover("linear", (64, 64), batches=(1,), densities=(0.1,), budget=30)
    >>> found.cells[0].batch, found.complete
    (1, True)
    """
    _check(op, shape, batches, densities, budget)
    begun = time.monotonic()
    high = min(shape[0], max(1, _LARGEST // shape[1]))
    weight = torch.randn(high, shape[1], generator=torch.Generator().manual_seed(0))
    cells: list[Cell] = []
    longest = 0.0
    for turn, density in enumerate(densities):
        if progress is not None:
            progress(turn, len(densities), f"density {density:g}")
        started = time.monotonic()
        if cells and started + longest - begun > budget:
            break
        packed = _packed(weight, density, layouts)
        for batch in batches:
            left = (budget - (time.monotonic() - begun)) / (len(densities) - turn) / len(batches)
            cells.append(_cell(weight, packed, batch, density, left))
        longest = max(longest, time.monotonic() - started)
    ordered = tuple(sorted(cells, key=lambda cell: (cell.batch, -cell.density)))
    done = len(cells) == len(batches) * len(densities)
    return Crossover(op, (high, shape[1]), ordered, done, environment())


def _check(
    op: str, shape: tuple[int, int], batches: Sequence[int], densities: Sequence[float],
    budget: float,
) -> None:
    if op not in OPS:
        raise ConfigError(unknown("op", op, OPS))
    if min(shape) < 1 or not batches or min(batches) < 1:
        raise ConfigError(f"A crossover needs a shape and batches of at least 1, not {shape} and "
                          f"{tuple(batches)}.")
    if not densities or not all(0 < density <= 1 for density in densities):
        raise ConfigError(f"Densities must lie in (0, 1], not {tuple(densities)}.")
    if not budget > 0:
        raise ConfigError(f"The budget is a number of seconds above 0, not {budget}.")


def _packed(weight: Tensor, density: float, layouts: str | Sequence[str]) -> dict[str, Packed]:
    """The weight under a random mask in every layout asked for."""
    score = torch.rand(weight.shape, generator=torch.Generator().manual_seed(1))
    support = select(score, rows(), Keep.fraction(density))
    if layouts == "auto":
        sizes = {name: packed_bytes(name, support, _HALF) for name in LAYOUTS if name != "dense"}
        names = [name for name, size in sizes.items() if size and size < 2 * weight.numel()]
        names = names or ["bitmask"]
    else:
        names = [layouts] if isinstance(layouts, str) else list(layouts)
        for name in names:
            layout_of(name)
    pruned = support.apply(weight)
    packed = {name: pack(pruned, support, name, _HALF) for name in names}
    if layouts != "auto":
        return packed
    x = torch.zeros(1, weight.shape[1])
    quick = {n: p for n, p in packed.items() if not explain(x, p).startswith("reference")}
    return quick or packed


def _cell(
    weight: Tensor, packed: Mapping[str, Packed], batch: int, density: float, budget: float
) -> Cell:
    """Rounds of all contenders, until the budget is spent."""
    x = torch.randn(batch, weight.shape[1], generator=torch.Generator().manual_seed(2))
    dense = _dense(x, weight)
    sparse = {name: _products(x, matrix) for name, matrix in packed.items()}
    size = 2 * weight.numel()
    layers = min(_MOST_LAYERS, max(2, math.ceil(2 * cache_bytes() / size * min(1.0, 4 / batch))))
    runs = {name: make(layers) for name, make in (*dense.items(), *sparse.items())}
    rounds: dict[str, list[list[float]]] = {name: [] for name in runs}
    least: dict[str, float] = {}
    begun = time.monotonic()
    for turn in range(_MOST_ROUNDS):
        if turn >= _ROUNDS and time.monotonic() - begun > budget:
            break
        for name, calls in runs.items():
            peers = dense if name in dense else sparse
            fastest = min((least[peer] for peer in peers if peer in least), default=math.inf)
            if len(rounds[name]) > 1 and least[name] > _SLOW * fastest:
                continue
            rounds[name].append(_seconds(calls))
            least[name] = sum(map(min, zip(*rounds[name]))) / layers
    best = min(dense, key=lambda name: least[name])
    quickest = min(sparse, key=lambda name: least[name])
    return Cell(batch, density, quickest, least[quickest], best, least[best])


def _dense(x: Tensor, weight: Tensor) -> dict[str, Callable[[int], list[Run]]]:
    """Every dense product at hand, as calls on so many equal weights."""
    half, narrow = x.to(_HALF), weight.to(_HALF)

    def torchs(given: Tensor, matrix: Tensor) -> Callable[[int], list[Run]]:
        return lambda layers: [
            functools.partial(torch.nn.functional.linear, given, matrix.clone())
            for _ in range(layers)]

    return {
        "torch float32": torchs(x, weight), "torch bfloat16": torchs(half, narrow),
        "gossamer bfloat16": _products(x, pack(narrow, Support.full(*weight.shape), "dense")),
    }


def _products(x: Tensor, packed: Packed) -> Callable[[int], list[Run]]:
    """A packed product, as calls on so many equal weights."""
    def copy() -> Packed:
        parts = {name: part.clone() for name, part in packed.parts.items()}
        return Packed(packed.layout, packed.shape, parts)

    return lambda layers: [functools.partial(linear, x, copy()) for _ in range(layers)]


def _seconds(calls: Sequence[Run]) -> list[float]:
    """Seconds of each call, one after the other."""
    clock = time.process_time if torch.get_num_threads() == 1 else time.perf_counter
    found = []
    for call in calls:
        begun = clock()
        call()
        found.append(max(clock() - begun, 1e-9))
    return found


def _between(below: Cell, above: Cell) -> float:
    """The density at which the speed-up passes `_GAIN`, between one that pays and one not."""
    share = math.log(below.speedup / _GAIN) / math.log(below.speedup / above.speedup)
    return float(below.density * (above.density / below.density) ** share)
