"""Evidence: a claim, the figures measured for it, and whether it holds."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import Any, Literal

Scale = Literal["quick", "full"]


@dataclass(frozen=True)
class Evidence:
    """What one run of an evidence script found.

    Args:
        claim: the statement under test, in one sentence.
        figures: what was measured, by name; JSON values only.
        holds: whether the claim holds, computed from the figures.
        because: the comparison that decided it, with its numbers.
        baseline: what the system was compared with.
        seconds: time taken.
    """

    claim: str
    figures: dict[str, Any]
    holds: bool
    because: str
    baseline: str
    seconds: float


@dataclass(frozen=True)
class Outcome:
    """One script run with one seed: its evidence, or the reason why it could not run."""

    id: str
    family: str
    seed: int
    device: str
    scale: Scale
    evidence: Evidence | None
    error: str | None = None

    @property
    def holds(self) -> bool:
        """True where the script ran and its claim holds."""
        return self.evidence is not None and self.evidence.holds

    def as_dict(self) -> dict[str, Any]:
        """The outcome as JSON values."""
        return dataclasses.asdict(self)
