"""``gossamer evidence``: measure claims; exit code 1 where one does not hold."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import tyro
from rich.console import Console

from gossamer.cards import cards
from gossamer.cli.terminal import console
from gossamer.core.atomic import write_text
from gossamer.core.errors import ConfigError, DataError
from gossamer.evidence import Outcome, Scale, evidence_page, run_evidence, scripts


@dataclass(frozen=True)
class Options:
    """Run evidence scripts and print claim, figures and verdict of each."""

    ids: Annotated[
        tyro.conf.Positional[tuple[str, ...]],
        tyro.conf.arg(metavar="[ID ...]", help="systems, such as sparsegpt"),
    ] = ()
    family: Annotated[
        str | None, tyro.conf.arg(metavar="FAMILY", help="every system of this family")
    ] = None
    all: Annotated[
        tyro.conf.FlagCreatePairsOff[bool], tyro.conf.arg(help="every system with a script")
    ] = False
    seed: Annotated[
        tuple[int, ...], tyro.conf.arg(metavar="N [N ...]", help="one or more seeds")
    ] = (0,)
    device: Annotated[str, tyro.conf.arg(metavar="DEVICE", help="cpu, cuda, cuda:1")] = "cpu"
    scale: Annotated[Scale, tyro.conf.arg(help="full may want a GPU")] = "quick"
    data: Annotated[
        Path | None,
        tyro.conf.arg(metavar="DIR", help="folder of real data sets; else GOSSAMER_DATA is used"),
    ] = None
    html: Annotated[
        Path | None, tyro.conf.arg(metavar="FILE", help="also write a page here")
    ] = None
    json: Annotated[
        Path | None, tyro.conf.arg(metavar="FILE", help="also write the outcomes here")
    ] = None


def run(arguments: list[str]) -> int:
    """Run the scripts asked for; 1 where a claim does not hold or a script could not run."""
    options = tyro.cli(Options, args=arguments, prog="gossamer evidence")
    screen = console()
    outcomes = []
    for outcome in run_evidence(
        _chosen(options), options.seed, options.device, options.scale, _data(options)
    ):
        _print(outcome, screen)
        outcomes.append(outcome)
        _write(outcomes, options)
    held = sum(outcome.holds for outcome in outcomes)
    screen.print(f"{held} of {len(outcomes)} runs hold.")
    return 0 if held == len(outcomes) else 1


def _chosen(options: Options) -> list[str]:
    if sum((bool(options.ids), options.family is not None, options.all)) != 1:
        raise ConfigError("Say which evidence to run: system ids, or --family F, or --all.")
    if options.ids:
        return list(options.ids)
    with_script = {item.id for item in scripts(options.family)}
    return [card.id for card in cards(options.family) if card.id in with_script]


def _data(options: Options) -> Path | None:
    folder = options.data or (Path(text) if (text := os.environ.get("GOSSAMER_DATA")) else None)
    if folder is not None and not folder.is_dir():
        raise DataError(f"No folder of data at {folder}; pass --data DIR or unset GOSSAMER_DATA.")
    return folder


def _print(outcome: Outcome, screen: Console) -> None:
    title = f"{outcome.id}, seed {outcome.seed}"
    if outcome.evidence is None:
        screen.print(f"{title}: could not run. {outcome.error}", markup=False, soft_wrap=True)
        return
    found = outcome.evidence
    verdict = "holds" if found.holds else "does not hold"
    screen.print(f"{title}: {verdict} ({found.seconds:.0f} s)", markup=False, soft_wrap=True)
    for label, text in (("claim", found.claim), ("because", found.because),
                        ("baseline", found.baseline)):
        screen.print(f"  {label}: {text}", markup=False, soft_wrap=True)


def _write(outcomes: Sequence[Outcome], options: Options) -> None:
    if options.json is not None:
        found = [outcome.as_dict() for outcome in outcomes]
        write_text(options.json, json.dumps(found, indent=1) + "\n")
    if options.html is not None:
        write_text(options.html, evidence_page(outcomes))
