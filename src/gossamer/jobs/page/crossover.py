"""The crossover on the page: speed-up by batch and density, and from where on packed pays."""

from __future__ import annotations

from dataclasses import dataclass

from gossamer.jobs.page.words import NONE, TIMES, times
from gossamer.measure import Crossover

_GAIN = 1.02  # as in verdicts


@dataclass(frozen=True)
class Field:
    """One cell of the table: its figure, the layout, and whether packed is quicker."""

    text: str
    small: str
    gain: bool


@dataclass(frozen=True)
class Line:
    """One batch."""

    batch: int
    fields: tuple[Field, ...]
    pays: str


@dataclass(frozen=True)
class Panel:
    """The table and what is said above it."""

    words: str
    densities: tuple[str, ...]
    lines: tuple[Line, ...]


def panel(found: Crossover) -> Panel:
    """The crossover as the page shows it."""
    densities = found.densities
    threads = found.env.get("threads")
    words = (
        f"One layer of {found.shape[0]:,}{TIMES}{found.shape[1]:,}, the shape that holds most of "
        f"this model's prunable weights (of a layer with more than four million, the first rows), "
        f"with bfloat16 weights and random masks: the "
        f"quickest packed product as a ratio to the fastest dense one at hand (torch in both "
        f"widths, gossamer's), {threads} thread{'' if threads == 1 else 's'}. A whole model gains "
        "less, since the rest of it stays dense."
    )
    if not found.complete:
        words += " The budget ended before every density was measured."
    lines = tuple(
        Line(batch, tuple(_field(found, batch, density) for density in densities),
             _pays(found, batch))
        for batch in found.batches)
    return Panel(words, tuple(f"{density:.0%} kept" for density in densities), lines)


def _field(found: Crossover, batch: int, density: float) -> Field:
    cell = found.cell(batch, density)
    if cell is None:
        return Field(NONE, "", False)
    return Field(times(cell.speedup), cell.layout, cell.speedup >= _GAIN)


def _pays(found: Crossover, batch: int) -> str:
    """From which share kept, downwards."""
    density = found.pays_below(batch)
    if density is None:
        return "not here"
    if density >= max(cell.density for cell in found.cells if cell.batch == batch):
        return f"{density:.0%} and less"
    return f"below {density:.0%}"
