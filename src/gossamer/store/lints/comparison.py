"""Lint on comparisons: equal budgets, equal data, and more than one seed."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from gossamer.core import DataError
from gossamer.store.inspection import Check

# Leaf names in a report or point that two runs must share to be compared.
BUDGET = (
    "density", "epochs", "steps", "tokens", "batches", "sequences", "length", "text", "dataset",
    "dtype", "device", "machine", "flops",
)
SEED = "seed"


class UnfairComparisonError(DataError):
    """Runs whose budgets, data or seeds differ are compared."""


def fair_comparison(runs: Sequence[Any]) -> Check:
    """What differs between runs besides the system itself.

    Args:
        runs: reports of pruning runs, `Point` objects, or mappings with the fields of `BUDGET`
            and ``seed`` anywhere in them.

    Raises:
        DataError: fewer than two runs.

    >>> fair_comparison([{"system": "a", "density": 0.5, "seed": 0},
    ...                  {"system": "b", "density": 0.6, "seed": 0}]).verdict
    'fail'
    """
    if len(runs) < 2:
        raise DataError(f"A comparison needs at least two runs, not {len(runs)}.")
    records = [_record(run) for run in runs]
    names = [_name(record) for record in records]
    fields = [dict(_leaves(record)) for record in records]
    differ = {}
    for key in BUDGET:
        seen = {str(_rounded(values.get(key, "not stated"))) for values in fields}
        if len(seen) > 1:
            differ[key] = sorted(seen)
    seeds: dict[str, set[Any]] = {}
    for name, values in zip(names, fields):
        seeds.setdefault(name, set()).add(values.get(SEED))
    lonely = sorted(name for name, found in seeds.items() if len(found - {None}) < 2)
    figures = {"runs": len(runs), "differ": differ, "single_seed": lonely}
    if differ:
        listed = "; ".join(f"{key}: {' against '.join(found)}" for key, found in differ.items())
        return Check("fair-comparison", "fail", f"The runs do not share one budget: {listed}.",
                     figures, 10)
    if lonely:
        return Check("fair-comparison", "warn", f"Fewer than two seeds for {', '.join(lonely)}: no "
                     "interval can be given.", figures, 10)
    return Check("fair-comparison", "ok", f"{len(runs)} runs share one budget and each system has "
                 "several seeds.", figures, 10)


def require_fair(runs: Sequence[Any]) -> None:
    """Raise UnfairComparisonError, listing the differences, unless the budgets are equal.

    A single seed is allowed here; `fair_comparison` warns of it.
    """
    check = fair_comparison(runs)
    if check.verdict == "fail":
        raise UnfairComparisonError(check.sentence)


def _record(run: Any) -> Mapping[str, Any]:
    record = run.to_json() if hasattr(run, "to_json") else run
    if not isinstance(record, Mapping):
        raise DataError(f"A run must be a report or a point, not {type(run).__name__}.")
    return record


def _name(record: Mapping[str, Any]) -> str:
    system = record.get("system", "")
    return str(system.get("id", "")) if isinstance(system, Mapping) else str(system)


def _leaves(record: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    """Leaf names and values; an outer value comes last and wins over a deeper one."""
    for value in record.values():
        if isinstance(value, Mapping):
            yield from _leaves(value)
    for key, value in record.items():
        if not isinstance(value, (Mapping, list, tuple)):
            yield key, value


def _rounded(value: Any) -> Any:
    # Exact budgets still differ in the last digits between layers of odd width.
    return round(value, 3) if isinstance(value, float) else value
