"""Point: one measured artefact, with where and how it was measured; kept as JSON."""

from __future__ import annotations

import json
import math
import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median
from typing import Any

from gossamer.core import DataError, StoreError
from gossamer.core.atomic import write_text

SCHEMA = 1
_FIELDS = ("system", "quality", "cost", "env", "kernels_used", "seed", "data",
           "fallbacks")


@dataclass(frozen=True)
class Point:
    """What one artefact reached and what it cost.

    Args:
        system: ``id`` (unique among the points), ``label`` (for people) and the configuration.
        quality: figures by name, such as ``perplexity``; lower is better.
        cost: figures by name; one that was timed is a tuple with a value for every repeat:
            ``disk_bytes``, ``memory_bytes``, ``macs_per_token``, ``seconds_per_token``,
            ``prefill_seconds``.
        env: `environment()`, with ``session`` naming the run in which the times were
            interleaved.
        kernels_used: names of the kernels that computed it.
        seed: of everything random.
        data: texts, tokens, and whatever else is needed to repeat it.
        fallbacks: products of packed layers that no kernel covered while it was timed,
            ``{"layout: why": times}``; they ran as dense products of an unpacked matrix.

    >>> point = Point({"id": "dense"}, {"perplexity": 27.6}, {"seconds_per_token": (0.3, 0.1, 0.2)})
    >>> point.value("cost.seconds_per_token")
    0.2
    """

    system: Mapping[str, Any]
    quality: Mapping[str, float] = field(default_factory=dict)
    cost: Mapping[str, float | tuple[float, ...]] = field(default_factory=dict)
    env: Mapping[str, Any] = field(default_factory=dict)
    kernels_used: tuple[str, ...] = ()
    seed: int = 0
    data: Mapping[str, Any] = field(default_factory=dict)
    fallbacks: Mapping[str, int] = field(default_factory=dict)

    @property
    def id(self) -> str:
        """The name that tells it from other points."""
        return str(self.system.get("id", ""))

    @property
    def label(self) -> str:
        """The name for people."""
        return str(self.system.get("label", self.id))

    def value(self, key: str) -> float | None:
        """A figure by its dotted name, ``cost.disk_bytes``; the median where it was repeated."""
        part, _, name = key.partition(".")
        if part not in ("cost", "quality"):
            raise DataError(f"A figure is named cost.NAME or quality.NAME, not {key!r}.")
        found = (self.cost if part == "cost" else self.quality).get(name)
        if found is None or (isinstance(found, tuple) and not found):
            return None
        number = float(median(found)) if isinstance(found, tuple) else float(found)
        return number if math.isfinite(number) else None

    def repeats(self, name: str) -> tuple[float, ...]:
        """All timed values of a cost, in the order of the rounds; empty where it was not timed."""
        found = self.cost.get(name)
        return found if isinstance(found, tuple) else ()

    def to_json(self) -> dict[str, Any]:
        """The point as plain JSON values."""
        record = {name: getattr(self, name) for name in _FIELDS}
        try:
            plain: dict[str, Any] = json.loads(json.dumps(record, allow_nan=False, default=dict))
        except (TypeError, ValueError) as error:
            raise DataError(f"Point {self.id!r} holds what JSON cannot: {error}.") from error
        return plain

    @staticmethod
    def from_json(record: Any) -> Point:
        """Inverse of `to_json`; StoreError where the record is no point."""
        if not isinstance(record, dict) or not isinstance(record.get("system"), dict):
            raise StoreError("A point must be an object with a system; this record is not one.")
        maps = {name: record.get(name, {})
                for name in ("system", "quality", "cost", "env", "data", "fallbacks")}
        wrong = [name for name, found in maps.items() if not isinstance(found, dict)]
        if wrong or not isinstance(record.get("seed", 0), int):
            raise StoreError(f"A point's {', '.join(wrong) or 'seed'} has the wrong type.")
        figures = (maps["quality"], maps["cost"], maps["fallbacks"])
        for name, found in (item for figure in figures for item in figure.items()):
            values = found if isinstance(found, list) else [found]
            if not all(_is_number(v) for v in values):
                raise StoreError(f"A point's {name} must be a number or numbers, not {found!r}.")
        maps["cost"] = {
            name: tuple(v) if isinstance(v, list) else v for name, v in maps["cost"].items()
        }
        kernels = tuple(str(name) for name in record.get("kernels_used", ()))
        return Point(**maps, kernels_used=kernels, seed=record.get("seed", 0))


def save_points(path: str | os.PathLike[str], points: Iterable[Point]) -> None:
    """Write points as one JSON file, all or nothing."""
    text = json.dumps(
        {"kind": "gossamer.points", "schema": SCHEMA, "points": [p.to_json() for p in points]},
        indent=1,
    )
    write_text(path, text + "\n")


def load_points(path: str | os.PathLike[str]) -> list[Point]:
    """Read points back; StoreError for a torn, foreign or newer file."""
    try:
        found = json.loads(Path(path).read_text(encoding="utf-8"))
    except OSError as error:
        raise StoreError(f"Cannot read points from {path}: {error.strerror}.") from error
    except ValueError as error:
        raise StoreError(f"{path} is not valid JSON ({error}); measure it again.") from error
    if not isinstance(found, dict) or found.get("kind") != "gossamer.points":
        raise StoreError(f"{path} holds no gossamer points.")
    if found.get("schema") != SCHEMA:
        raise StoreError(
            f"{path} has points of schema {found.get('schema')!r}, this gossamer reads schema "
            f"{SCHEMA}; install a newer gossamer or measure again."
        )
    return [Point.from_json(record) for record in found.get("points", [])]


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)
