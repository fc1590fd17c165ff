"""``gossamer frontier``: the main job."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import tyro

from gossamer.cli.terminal import console, quiet_libraries

if TYPE_CHECKING:
    from gossamer.jobs import FrontierJob


def _arg(metavar: str, help: str) -> Any:
    return tyro.conf.arg(metavar=metavar, help=help)


@dataclass(frozen=True)
class Options:
    """Which sparsity buys what on this model, on this machine: table, picture and page.

    A run that was stopped goes on where it was when the same command is given again.
    """

    model: Annotated[
        tyro.conf.Positional[str], _arg("MODEL", "smollm2, a model folder, or a hub id")
    ]
    systems: Annotated[
        tuple[str, ...], _arg("ID [ID ...]", "pruning systems, see `gossamer systems`")
    ] = ("magnitude", "wanda", "sparsegpt")
    targets: Annotated[
        tuple[str, ...],
        _arg("T [T ...]", "sparsities (70%), densities (0.3) or patterns (2:4) [50% 2:4 70%]"),
    ] = ()
    densities: Annotated[
        tuple[str, ...], _arg("D [D ...]", "densities, the shares that are kept; adds to targets")
    ] = ()
    text: Annotated[
        str | None, _arg("SOURCE", "text to calibrate on; embedded unless given")
    ] = None
    evaluation: Annotated[
        str | None, _arg("SOURCE", "text to measure on; else the last part of --text")
    ] = None
    budget: Annotated[float, _arg("MINUTES", "time for everything together")] = 5.0
    tokens: Annotated[
        int | None, _arg("N", "tokens to calibrate and to measure on; else what the budget allows")
    ] = None
    seed: Annotated[int, _arg("N", "which sequences of the text calibrate")] = 0
    limit: Annotated[
        float, _arg("RATIO", "perplexity over the dense one up to which a saving pays")
    ] = 1.25
    out: Annotated[Path, _arg("DIR", "page, picture, points and saved models")] = Path(
        "frontier-out")
    restart: Annotated[
        tyro.conf.FlagCreatePairsOff[bool],
        tyro.conf.arg(help="start over instead of going on where an earlier run was"),
    ] = False


def run(arguments: list[str]) -> int:
    """Run the job with a live table, then say what it found and where the page is."""
    options = tyro.cli(Options, args=arguments, prog="gossamer frontier")
    from gossamer.jobs.live import run_live

    quiet_libraries()
    screen = console()
    outcome = run_live(screen, job(options), options.out, resume=not options.restart)
    for note in outcome.notes:
        screen.print(note, markup=False, soft_wrap=True)
    screen.print(outcome.headline, markup=False, soft_wrap=True)
    screen.print(f"The page: {outcome.page.resolve()}", markup=False, soft_wrap=True)
    return 0


def job(options: Options) -> FrontierJob:
    """The job that the options describe."""
    from gossamer.jobs import FrontierJob

    targets = (*options.targets, *options.densities)
    return FrontierJob(
        model=options.model, systems=options.systems, targets=targets or FrontierJob.targets,
        text=options.text, evaluation=options.evaluation, budget_minutes=options.budget,
        tokens=options.tokens, seed=options.seed, limit=options.limit,
    )
