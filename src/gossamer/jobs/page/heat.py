"""Heat maps of density and error: kinds of matrix down, layers across, one map a record."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from gossamer.jobs.page.words import number
from gossamer.jobs.record import Layer, Record


@dataclass(frozen=True)
class Cell:
    """One matrix: layer and kind as indices, its shade in 0..1, and its figures in words."""

    column: int
    row: int
    shade: float
    tip: str


@dataclass(frozen=True)
class HeatMap:
    """The matrices of one record."""

    id: str
    label: str
    kinds: tuple[str, ...]
    layers: int
    cells: tuple[Cell, ...]
    summary: str


@dataclass(frozen=True)
class HeatMaps:
    """Maps of several records on one scale, whose ends are given in words."""

    maps: tuple[HeatMap, ...]
    low: str
    high: str


def error_maps(records: Sequence[Record]) -> HeatMaps:
    """Relative output error of the pruned matrices, for systems that saw inputs."""
    return _errors([r for r in records if _saw_inputs(r)], lambda layer: layer.error)


def weight_error_maps(records: Sequence[Record]) -> HeatMaps:
    """Relative change of the weights, for systems that saw no inputs."""
    return _errors([r for r in records if not _saw_inputs(r)], lambda layer: layer.weight_error)


def _saw_inputs(record: Record) -> bool:
    return any(layer.error is not None for layer in record.layers)


def _errors(records: Sequence[Record], error: Callable[[Layer], float | None]) -> HeatMaps:
    """Errors on one logarithmic scale of at most two decades."""
    known = {r.point.id: sorted(e for layer in r.layers if (e := error(layer)) is not None)
             for r in records}
    high = max((errors[-1] for errors in known.values() if errors), default=0.0)
    if high <= 0:
        return HeatMaps((), "", "")
    low = max(min(errors[0] for errors in known.values() if errors), high / 100)

    def shade(layer: Layer) -> float | None:
        found = error(layer)
        if found is None or high <= low:
            return None if found is None else 0.5
        return math.log(max(found, low) / low) / math.log(high / low)

    maps = tuple(
        _map(r, shade, f"median {number(errors[len(errors) // 2])}, worst {number(errors[-1])}")
        for r in records if (errors := known[r.point.id])
    )
    return HeatMaps(maps, number(low), number(high))


def density_maps(records: Sequence[Record]) -> HeatMaps:
    """Share kept of every pruned matrix, from none to all."""
    shown = [r for r in records if r.layers]
    maps = tuple(_map(r, lambda layer: layer.density, _density_summary(r)) for r in shown)
    return HeatMaps(maps, "0", "1")


def place(name: str) -> tuple[int, str]:
    """Layer and kind of a matrix from its dotted name.

    >>> place("model.layers.3.self_attn.q_proj.weight")
    (3, 'self_attn.q_proj')
    """
    plain = re.sub(r"\[\d+\]$", "", name).removesuffix(".weight")
    parts = plain.split(".")
    for i, part in enumerate(parts):
        if part.isdigit():
            return int(part), ".".join(parts[i + 1 :]) or plain
    return 0, plain


def _map(
    record: Record, shade: Callable[[Layer], float | None], summary: str
) -> HeatMap:
    grouped: dict[tuple[int, str], list[Layer]] = {}
    for layer in record.layers:
        grouped.setdefault(place(layer.name), []).append(layer)
    kinds = tuple(dict.fromkeys(kind for _, kind in grouped))
    columns = sorted({column for column, _ in grouped})
    cells = []
    for (column, kind), members in grouped.items():
        shades = [s for member in members if (s := shade(member)) is not None]
        if shades:
            value = sum(shades) / len(shades)
            cells.append(Cell(columns.index(column), kinds.index(kind), round(value, 3),
                              _tip(column, kind, members)))
    point = record.point
    return HeatMap(point.id, point.label, kinds, len(columns), tuple(cells), summary)


def _tip(column: int, kind: str, members: Sequence[Layer]) -> str:
    density = sum(m.density for m in members) / len(members)
    outputs = [m.error for m in members if m.error is not None]
    known = f", output error {number(sum(outputs) / len(outputs))}" if outputs else ""
    many = f", mean of {len(members)} experts" if len(members) > 1 else ""
    return f"layer {column}, {kind}: density {density:.3f}{known}{many}"


def _density_summary(record: Record) -> str:
    densities = [layer.density for layer in record.layers]
    low, high = min(densities), max(densities)
    if high - low < 5e-4:
        return f"{low:.3f} in every matrix"
    return f"{low:.3f} to {high:.3f}"
