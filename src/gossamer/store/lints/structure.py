"""Lints on where the zeros lie: dead units, allocation over layers, first and last layers."""

from __future__ import annotations

from collections.abc import Sequence
from statistics import median

from gossamer.store.inspection import Check, Other, SiteRow

VERY_SPARSE = 0.1
UNIFORM = 0.01
SPECIAL = 0.05


def dead_units(rows: Sequence[SiteRow]) -> Check:
    """Outputs and inputs without a single weight: whole channels are gone, unannounced."""
    outputs = {row.name: row.dead_rows for row in rows if row.dead_rows}
    inputs = {row.name: row.dead_columns for row in rows if row.dead_columns}
    figures = {"dead_rows": outputs, "dead_columns": inputs}
    if not outputs and not inputs:
        return Check("dead-units", "ok", "Every output and every input keeps a weight.", figures, 9)
    return Check(
        "dead-units", "warn",
        f"{sum(outputs.values())} outputs and {sum(inputs.values())} inputs have no weight left, "
        f"first in {next(iter(outputs or inputs))}. They can be cut for good, or the allocation is "
        "too harsh there.", figures, 9,
    )


def allocation(rows: Sequence[SiteRow]) -> Check:
    """The same density in all layers, at a density where that is known to hurt."""
    densities = [row.density for row in rows]
    overall = sum(row.nonzeros for row in rows) / max(1, sum(row.weights for row in rows))
    spread = max(densities, default=0.0) - min(densities, default=0.0)
    figures = {"density": overall, "lowest": min(densities, default=0.0),
               "highest": max(densities, default=0.0)}
    if len(rows) >= 3 and 0 < overall <= VERY_SPARSE and spread < UNIFORM:
        return Check(
            "allocation", "warn",
            f"All {len(rows)} matrices keep about {overall:.1%}. At such densities small layers "
            "need a larger share: use ERK or another layer-wise allocation, or state that it is "
            "uniform.", figures, 9,
        )
    return Check("allocation", "ok", f"Matrices keep {figures['lowest']:.1%} to "
                 f"{figures['highest']:.1%}, {overall:.1%} together.", figures, 9)


def first_last(rows: Sequence[SiteRow], others: Sequence[Other]) -> Check:
    """How the first and last layers and the matrices outside the blocks were treated."""
    ends, middle = _ends(rows)
    outside = {o.name: o.nonzeros / max(1, o.weights) for o in others if len(o.shape) > 1}
    figures = {"first": ends[0], "last": ends[1], "median_between": middle, "outside": outside}
    # Quantised weights hold some exact zeros of their own.
    dense = [name for name, density in outside.items() if density > 1 - SPECIAL]
    more = f" and {len(dense) - 3} more" if len(dense) > 3 else ""
    tail = f" Outside the blocks {', '.join(dense[:3])}{more} stay dense." if dense else ""
    if middle is not None and max(abs(end - middle) for end in ends) > SPECIAL:
        return Check(
            "first-last", "warn",
            f"The first layers keep {ends[0]:.1%} and the last {ends[1]:.1%}, those between "
            f"{middle:.1%}. State that the ends are treated apart.{tail}", figures, 8,
        )
    return Check("first-last", "note" if dense else "ok", f"The first layers keep {ends[0]:.1%}, "
                 f"the last {ends[1]:.1%}.{tail}", figures, 8)


def _ends(rows: Sequence[SiteRow]) -> tuple[tuple[float, float], float | None]:
    """Densities of the first and the last block, and the median of those between."""
    blocks: dict[str, list[SiteRow]] = {}
    for row in rows:
        blocks.setdefault(block_of(row.name), []).append(row)
    densities = [
        sum(row.nonzeros for row in block) / max(1, sum(row.weights for row in block))
        for block in blocks.values()
    ]
    if not densities:
        return (0.0, 0.0), None
    between = densities[1:-1]
    return (densities[0], densities[-1]), median(between) if between else None


def block_of(name: str) -> str:
    """The path up to and with the first number in it; the whole name without one.

    >>> block_of("model.layers.11.mlp.up_proj.weight")
    'model.layers.11'
    """
    parts = name.split(".")
    numbers = [i for i, part in enumerate(parts) if part.isdigit()]
    return ".".join(parts[: numbers[0] + 1]) if numbers else name
