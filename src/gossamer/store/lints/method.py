"""Lint on the name of a training method: what the run did decides what it may be called."""

from __future__ import annotations

from collections.abc import Sequence

from gossamer.core import ConfigError
from gossamer.core.errors import unknown
from gossamer.store.inspection import Check

LABELS = ("dense", "dense-to-sparse", "static sparse-to-sparse", "dynamic sparse-to-sparse")


def route(nonzeros: Sequence[int], weights: int, support_changes: int) -> str:
    """What a training run was, from its counts of non-zeros.

    Dense-to-sparse: it held more weights on the way than at the end. Sparse-to-sparse: never;
    static where the support did not change after the first step, else dynamic.

    Args:
        nonzeros: non-zero weights at every recorded step, the last one included.
        weights: of the dense model.
        support_changes: steps at which the set of kept weights changed.

    >>> route([1000, 500, 100], 1000, 2), route([100, 100], 1000, 0)
    ('dense-to-sparse', 'static sparse-to-sparse')
    """
    if not nonzeros or not 0 <= min(nonzeros) <= max(nonzeros) <= weights:
        raise ConfigError(
            f"A run needs counts of non-zeros between 0 and {weights}, not {list(nonzeros)[:3]}."
        )
    if nonzeros[-1] == weights:
        return "dense"
    if max(nonzeros) > nonzeros[-1]:
        return "dense-to-sparse"
    return "dynamic sparse-to-sparse" if support_changes else "static sparse-to-sparse"


def method_label(
    claimed: str, nonzeros: Sequence[int], weights: int, support_changes: int,
    dense_gradient: bool = False,
) -> Check:
    """A training method's name against what its run held in memory.

    Args:
        claimed: one of `LABELS`.
        nonzeros: as in `route`.
        weights: as in `route`.
        support_changes: as in `route`.
        dense_gradient: whether gradients or optimiser state of pruned weights were kept.
    """
    if claimed not in LABELS:
        raise ConfigError(unknown("training route", claimed, LABELS))
    found = route(nonzeros, weights, support_changes)
    figures = {"claimed": claimed, "found": found, "peak": max(nonzeros), "final": nonzeros[-1],
               "weights": weights, "support_changes": support_changes,
               "dense_gradient": dense_gradient}
    if found != claimed:
        return Check(
            "method-label", "fail",
            f"The run is called {claimed} but was {found}: at most {max(nonzeros)} of {weights} "
            f"weights were held, {nonzeros[-1]} at the end, and the support changed "
            f"{support_changes} times.", figures, 5,
        )
    if dense_gradient and found.endswith("sparse-to-sparse"):
        return Check("method-label", "note", f"The run is {found} in its weights, but its "
                     "gradients or optimiser state were dense: say so.", figures, 5)
    return Check("method-label", "ok", f"The run was {found}, as claimed.", figures, 5)
