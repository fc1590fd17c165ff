"""An evidence script whose claim holds for seed 0 alone."""

from __future__ import annotations

from pathlib import Path

from gossamer.core.errors import DataError
from gossamer.evidence import Evidence, Scale


def run(seed: int, device: str, scale: Scale = "quick", data: Path | None = None) -> Evidence:
    """Claim that the seed is zero; seed 2 cannot run."""
    if seed == 2:
        raise DataError("The text is empty; pass another.")
    return Evidence(
        claim="the seed <is> zero", figures={"seed": seed, "nested": {"third": 1 / 3, "list": [1]}},
        holds=seed == 0, because=f"seed {seed} against 0", baseline="zero", seconds=0.5,
    )
