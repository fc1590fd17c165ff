"""Where sparse begins to pay for the layers of the model at hand: measured once, kept beside it."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable

import torch
from torch import nn

from gossamer import __version__
from gossamer.core import DataError, sites
from gossamer.core.atomic import write_text
from gossamer.jobs.state import State, digest, read_json
from gossamer.measure import Crossover, crossover, environment

NAME = "crossover.json"
_SHARE, _MOST_SECONDS = 0.05, 15.0


def crossover_seconds(budget_minutes: float) -> float:
    """Seconds of a frontier's budget that are kept for this.

    >>> crossover_seconds(5), crossover_seconds(60)
    (15.0, 15.0)
    """
    return min(_MOST_SECONDS, 60 * budget_minutes * _SHARE)


def main_shape(model: nn.Module) -> tuple[int, int]:
    """The shape of layer that holds most of the prunable weights.

    >>> main_shape(nn.Sequential(nn.Linear(8, 8), nn.Linear(8, 4), nn.Linear(4, 8)))
    (8, 8)
    """
    weights: Counter[tuple[int, int]] = Counter()
    for site in sites(model):
        weights[site.shape] += site.shape[0] * site.shape[1]
    return weights.most_common(1)[0][0]


def layer_crossover(
    state: State, shape: tuple[int, int], seconds: float, report: Callable[[float, str], None]
) -> Crossover:
    """The crossover of a shape with the threads in use; an earlier one of this machine counts."""
    machine = [environment()[name] for name in ("cpu", "threads", "kernels")]
    key = digest([__version__, torch.__version__, shape, seconds, machine])
    found = read_json(state.folder / NAME) or {}
    if found.get("key") == key:
        try:
            return Crossover.from_json(found["crossover"])
        except (DataError, KeyError):
            report(0.0, "the kept crossover is damaged and measured again")
    made = crossover("linear", shape, budget=seconds,
                     progress=lambda i, n, text: report(i / n, f"timing one layer, {text}"))
    write_text(state.folder / NAME,
               json.dumps({"key": key, "crossover": made.to_json()}, indent=1) + "\n")
    return made
