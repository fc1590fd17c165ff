"""Finding evidence scripts and running them over systems and seeds."""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from gossamer.cards import FAMILIES, get_card
from gossamer.core.errors import ConfigError, GossamerError, NeedsError, unknown
from gossamer.evidence.record import Evidence, Outcome, Scale


@dataclass(frozen=True)
class Script:
    """The evidence script of one system, not yet imported.

    Args:
        id: the system.
        family: the family that the system belongs to.
        module: dotted name of the script.
    """

    id: str
    family: str
    module: str

    def load(self) -> Callable[..., Evidence]:
        """The script's ``run(seed, device, scale="quick", data=None)``."""
        run: Callable[..., Evidence] = importlib.import_module(self.module).run
        return run


def scripts(family: str | None = None) -> list[Script]:
    """Every evidence script, or those of one family, ordered by family and id."""
    if family is not None and family not in FAMILIES:
        raise ConfigError(unknown("family", family, FAMILIES))
    package = importlib.import_module("gossamer.evidence")
    folders = [info.name for info in pkgutil.iter_modules(package.__path__) if info.ispkg]
    return [
        Script(info.name.replace("_", "-"), folder, f"{package.__name__}.{folder}.{info.name}")
        for folder in sorted(folders) if family in (None, folder)
        for info in pkgutil.iter_modules([str(Path(path) / folder) for path in package.__path__])
    ]


def script(id: str) -> Script:
    """The evidence script of one system; an unknown system names the nearest one."""
    found = {item.id: item for item in scripts(get_card(id).family)}
    if id not in found:
        raise NeedsError(f"The system {id!r} has no evidence script: its claims are not measured.")
    return found[id]


def run_evidence(
    ids: Iterable[str], seeds: Sequence[int] = (0,), device: str = "cpu", scale: Scale = "quick",
    data: Path | None = None,
) -> Iterator[Outcome]:
    """Run the scripts of these systems once a seed, yielding each outcome as it is known.

    Args:
        ids: systems, by id; all are looked up before the first one runs.
        seeds: seeds to run each script with.
        device: torch device of the runs.
        scale: quick fits two CPU cores and about 90 seconds, full may want a GPU.
        data: folder of real data for scripts that can use it; None takes the embedded data.

    Raises:
        ConfigError: an unknown system.
        NeedsError: a system without a script.
    """
    found = [script(id) for id in ids]
    for item in found:
        for seed in seeds:
            yield _outcome(item, seed, device, scale, data)


def _outcome(item: Script, seed: int, device: str, scale: Scale, data: Path | None) -> Outcome:
    try:
        evidence = item.load()(seed, device, scale=scale, data=data)
    except GossamerError as error:
        return Outcome(item.id, item.family, seed, device, scale, None, str(error))
    return Outcome(item.id, item.family, seed, device, scale, evidence)
