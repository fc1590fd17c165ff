"""Lints on labels: a pattern, a mask or a density that the weights contradict."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from gossamer.store.inspection import Check, SiteRow


def pattern_claim(rows: Sequence[SiteRow]) -> Check:
    """Every group of every matrix against the pattern that was claimed for it."""
    claimed = [row for row in rows if row.claimed is not None]
    wrong = [row for row in claimed if row.broken is not None]
    figures = {"claimed": len(claimed), "broken": {row.name: row.broken for row in wrong}}
    if not claimed:
        return Check("pattern-claim", "ok", "No pattern is claimed.", figures, 3)
    if not wrong:
        names = ", ".join(sorted({row.claimed or "" for row in claimed}))
        return Check("pattern-claim", "ok", f"All {len(claimed)} matrices follow the pattern "
                     f"claimed for them ({names}).", figures, 3)
    first = wrong[0]
    return Check(
        "pattern-claim", "fail",
        f"{len(wrong)} of {len(claimed)} matrices break the pattern claimed for them: "
        f"{first.name} is not {first.claimed}. {first.broken}", figures, 3,
    )


def kept_zeros(rows: Sequence[SiteRow]) -> Check:
    """Zeros that a layout stores as kept: they cost bytes and are no part of the mask's zeros."""
    padded = {row.name: row.kept - row.nonzeros for row in rows
              if row.layout != "dense" and row.kept > row.nonzeros}
    total = sum(padded.values())
    figures = {"zeros_kept": total, "sites": padded}
    if not padded:
        return Check("kept-zeros", "ok", "No zero is stored as a kept weight.", figures, 8)
    return Check(
        "kept-zeros", "note",
        f"{total} kept weights in {len(padded)} matrices are zero. They belong to the support, not "
        "to the pruned weights: a density counted by zeros differs from the mask's.", figures, 8,
    )


def effective_weights(stored: Mapping[str, float], effective: Mapping[str, float]) -> Check:
    """Density of the stored tensor against that of the weight which the layer multiplies with.

    Args:
        stored: density of the parameter, by site, where a mask or parametrisation stands
            between it and the weight.
        effective: density of the weight, for the same sites.
    """
    apart = {name: (stored[name], effective[name]) for name in stored
             if abs(stored[name] - effective[name]) > 1e-9}
    figures = {"masked_sites": len(stored), "differ": apart}
    if not stored:
        return Check("effective-weights", "ok", "Every parameter is the weight itself; densities "
                     "are those that the layers use.", figures, 8)
    name = next(iter(apart or stored))
    return Check(
        "effective-weights", "warn" if apart else "note",
        f"{len(stored)} weights are computed from a parameter and a mask: {name} has a parameter "
        f"of density {stored[name]:.1%} and a weight of density {effective[name]:.1%}. Count the "
        "weight, and write the mask into the parameter before saving.", figures, 8,
    )
