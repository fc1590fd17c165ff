"""The table of all points, the tiles of the best one and the machine, in words."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from gossamer.jobs.page.scatter import Style
from gossamer.jobs.page.story import Judged
from gossamer.jobs.page.words import milliseconds, number, size, span, times
from gossamer.jobs.record import Record
from gossamer.jobs.target import percent

COLUMNS = (
    ("point", "below: what decoded it for the time"),
    ("perplexity", "on the evaluation windows; below: ratio to the dense model"),
    ("on disk", "weights file; below: ratio to the smallest dense form"),
    ("tokens/s", "greedy decoding at batch 1; below: ratio to the fastest dense form"),
    ("sparsity", "zeros of the pruned matrices"),
    ("density", "share of the pruned matrices that is kept"),
    ("in memory", "parameters and buffers after loading"),
    ("prefill", "the prompt's forward pass"),
    ("verdict", ""),
)


@dataclass(frozen=True)
class Cell:
    """A table cell: its text, a second line, and the value that it sorts by."""

    text: str
    sort: float | str = ""
    small: str = ""


@dataclass(frozen=True)
class Row:
    """A table row."""

    id: str
    colour: int
    baseline: bool
    cells: tuple[Cell, ...]


@dataclass(frozen=True)
class Tile:
    """One large figure of the best point."""

    name: str
    value: str
    against: str


def table(
    records: Sequence[Record], judged: Mapping[str, Judged], looks: Mapping[str, Style]
) -> list[Row]:
    """One row a record, in the order given."""
    return [_row(record, judged.get(record.point.id), looks) for record in records]


def tiles(chosen: Judged | None) -> list[Tile]:
    """Bytes, speed and perplexity of the best point against dense."""
    if chosen is None:
        return []
    found, point = chosen.verdict, chosen.point
    speed, quality = point.value("cost.seconds_per_token"), point.value("quality.perplexity")
    made: list[Tile] = []
    if found.speedup is not None and speed:
        spread = span(found.speedup)
        against = f"{times(found.speedup.mid)} the fastest dense form"
        made.append(Tile("decoded tokens a second", number(1 / speed),
                         against + (f" ({spread})" if spread else "")))
    if found.bytes_ratio is not None:
        made.append(Tile("on disk", size(point.value("cost.disk_bytes")),
                         f"{times(found.bytes_ratio)} the smallest dense form"))
    if found.quality_ratio is not None and quality is not None:
        dense = quality / found.quality_ratio
        made.append(Tile("perplexity", number(quality),
                         f"{number(dense)} dense, {times(found.quality_ratio)}"))
    return made


def machine(env: Mapping[str, Any]) -> list[tuple[str, str]]:
    """The environment as name and value."""
    memory = env.get("memory_bytes")
    gpu = env.get("gpu") or {}
    facts = [
        ("processor", env.get("cpu")), ("cores", env.get("cores")),
        ("threads", env.get("threads")), ("instructions", ", ".join(env.get("instructions", ()))),
        ("gossamer's kernels", env.get("kernels")),
        ("memory", size(memory) if memory else None), ("GPU", gpu.get("name")),
        ("load while timing", env.get("load")), ("system", env.get("system")),
        ("Python", env.get("python")),
        *((name, version) for name, version in env.get("versions", {}).items()),
        ("measured", env.get("date")),
    ]
    return [(name, str(value)) for name, value in facts if value not in (None, "")]


def _row(record: Record, judged: Judged | None, looks: Mapping[str, Style]) -> Row:
    point = record.point
    density = float(point.system.get("density", 1.0))
    speed, prefill = point.value("cost.seconds_per_token"), point.value("cost.prefill_seconds")
    quality, disk = point.value("quality.perplexity"), point.value("cost.disk_bytes")
    memory = point.value("cost.memory_bytes")
    verdict = judged.verdict if judged is not None and not record.failed else None
    ratio = verdict.quality_ratio if verdict else None
    fast = verdict.speedup if verdict else None
    words = "dense baseline" if judged is None else judged.short
    return Row(point.id, looks[point.id].colour, record.baseline, (
        Cell(point.label, point.label, str(point.data.get("decoded by", ""))),
        Cell(number(quality), _sort(quality), times(ratio) if ratio else ""),
        Cell(size(disk), _sort(disk),
             times(verdict.bytes_ratio) if verdict and verdict.bytes_ratio else ""),
        Cell(number(1 / speed if speed else None), _sort(1 / speed if speed else None),
             times(fast.mid) if fast else ""),
        Cell(percent(round(1 - density, 3)), 1 - density), Cell(f"{density:.3g}", density),
        Cell(size(memory), _sort(memory)),
        Cell(milliseconds(prefill), _sort(prefill)), Cell(words, words),
    ))


def _sort(value: float | None) -> float | str:
    return "" if value is None else value
