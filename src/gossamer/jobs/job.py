"""FrontierJob: what a frontier is made of, checked before anything runs."""

from __future__ import annotations

import math
import shlex
from dataclasses import dataclass
from typing import Annotated, Any

import annotated_types as at

from gossamer.cards import get_system, pruning_system
from gossamer.core import ConfigError, validate
from gossamer.jobs.target import Target, parse_target
from gossamer.measure.verdict import LIMIT

# The patterns that systems are compared under; others use the default of their own.
_PATTERNS = (("magnitude", "unstructured"), ("wanda", "rows"))


@dataclass(frozen=True)
class FrontierJob:
    """Every system at every target, on one model, with one text.

    Raises:
        ConfigError: an unknown system or target, a system that prunes nothing, a value out of
            its bounds.

    >>> FrontierJob(targets=("50%", "2:4")).points()[0][0]
    'magnitude'
    """

    model: Annotated[str, "smollm2, a model folder, a GGUF file or a hub id"] = "smollm2"
    systems: Annotated[tuple[str, ...], "ids of pruning systems"] = (
        "magnitude", "wanda", "sparsegpt")
    targets: Annotated[
        tuple[str, ...], "a sparsity (70%), a density (0.3) or a pattern (2:4), any number"
    ] = ("50%", "2:4", "70%")
    text: Annotated[
        str | None, "text to calibrate on, embedded unless given; its last part is held out"
    ] = None
    evaluation: Annotated[str | None, "text to measure perplexity on"] = None
    budget_minutes: Annotated[float, at.Gt(0), "time for everything together"] = 5.0
    tokens: Annotated[
        int | None, at.Ge(512), "tokens to calibrate on and to measure on; None: by the budget"
    ] = None
    seed: Annotated[int, at.Ge(0), "which sequences of the text calibrate"] = 0
    limit: Annotated[
        float, at.Ge(1), "greatest perplexity, over the dense one, at which a saving pays"
    ] = LIMIT

    def __post_init__(self) -> None:
        validate(self)
        if not math.isfinite(self.budget_minutes):
            raise ConfigError(f"A budget of {self.budget_minutes} minutes is no budget.")
        for name, values in (("systems", self.systems), ("targets", self.targets)):
            if not values:
                raise ConfigError(f"A frontier needs at least one of {name}.")
        self.points()

    def points(self) -> list[tuple[str, Target]]:
        """Every (system id, target), each once, in order."""
        for system in self.systems:
            pruning_system(system)
        targets = dict.fromkeys(parse_target(text) for text in self.targets)
        return [(system, target) for target in targets for system in dict.fromkeys(self.systems)]

    def command(self, tokens: int) -> str:
        """The command that repeats it with the same tokens."""
        words = ["gossamer", "frontier", self.model, "--systems", *self.systems, "--targets",
                 *self.targets]
        for flag, value in (("--text", self.text), ("--evaluation", self.evaluation)):
            words += [flag, value] if value else []
        words += ["--tokens", str(tokens), "--seed", str(self.seed)]
        return shlex.join(words + (["--limit", f"{self.limit:g}"] if self.limit != LIMIT else []))


def build_system(id: str, target: Target) -> Any:
    """The configured system for a target."""
    kind = get_system(id)
    if target.pattern is not None:
        return kind(pattern=target.pattern)
    pattern = dict(_PATTERNS).get(id)
    return kind(density=target.density) if pattern is None else kind(
        density=target.density, pattern=pattern)


def point_id(system: str, target: Target) -> str:
    """The name of a point's files."""
    return f"{system}-{target.slug}"
