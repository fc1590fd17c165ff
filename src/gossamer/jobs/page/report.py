"""Report: what the page shows, before any of it is laid out."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from gossamer.jobs.record import Record
from gossamer.measure import Crossover
from gossamer.measure.verdict import LIMIT


@dataclass(frozen=True)
class Report:
    """The whole result of one frontier.

    Args:
        model: the model's name.
        records: dense baselines and pruned points, in the order of the table.
        env: `measure.environment()` of the run that timed them.
        settings: name and value of everything that was chosen, as people read it.
        command: the command that repeats it.
        prompt: what the samples continue.
        notes: how it was measured, a sentence each.
        limit: greatest ratio of perplexities at which a saving counts.
        crossover: where sparse begins to pay for one layer; None where it was not measured.
    """

    model: str
    records: tuple[Record, ...]
    env: Mapping[str, Any] = field(default_factory=dict)
    settings: Mapping[str, str] = field(default_factory=dict)
    command: str = ""
    prompt: str = ""
    notes: tuple[str, ...] = ()
    limit: float = LIMIT
    crossover: Crossover | None = None
