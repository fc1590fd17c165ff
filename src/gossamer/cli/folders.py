"""``gossamer inspect`` and ``gossamer pack``: model folders on disk."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import tyro
from rich import box
from rich.table import Table
from rich.text import Text

from gossamer.cli.terminal import console, quiet_libraries
from gossamer.core.atomic import write_text

if TYPE_CHECKING:
    from gossamer.store import Inspection, SiteRow

_NAME_WIDTH = 44  # names up to this length stay on one line
_COLOURS = {"ok": "green", "note": "cyan", "warn": "yellow", "fail": "red"}


def _arg(metavar: str | None, help: str) -> Any:
    return tyro.conf.arg(metavar=metavar, help=help)


@dataclass(frozen=True)
class Inspect:
    """What a model folder really holds: bits a weight, patterns, and what to beware of.

    Exit code 1 where a claim of the folder is wrong.
    """

    folder: Annotated[tyro.conf.Positional[Path], _arg("DIR", "a model folder")]
    json: Annotated[Path | None, _arg("FILE", "also write everything here")] = None


@dataclass(frozen=True)
class Pack:
    """Save a model folder again in another layout; nothing is lost either way."""

    folder: Annotated[tyro.conf.Positional[Path], _arg("DIR", "a model folder")]
    out: Annotated[Path, _arg("DIR", "folder to write")]
    layout: Annotated[
        str, _arg("NAME", "auto is the smallest, decode the smallest that the Decoder "
                     "reads; dense loads in plain transformers")
    ] = "auto"
    overwrite: Annotated[
        tyro.conf.FlagCreatePairsOff[bool], _arg(None, "replace a model that OUT holds")
    ] = False


def run_inspect(arguments: list[str]) -> int:
    """Print the matrices, the totals and the findings; 1 where a claim is wrong."""
    from gossamer import store

    options = tyro.cli(Inspect, args=arguments, prog="gossamer inspect")
    quiet_libraries()
    found = store.inspect(options.folder)
    screen = console()
    screen.print(_matrices(found))
    screen.print(_totals(found), markup=False, soft_wrap=True)
    for check in found.checks:
        verdict = (f"{check.verdict:>4}  ", _COLOURS[check.verdict])
        screen.print(Text.assemble(verdict, check.sentence), soft_wrap=True)
    if options.json is not None:
        write_text(options.json, json.dumps(found.to_json(), indent=1) + "\n")
    return 1 if any(check.verdict == "fail" for check in found.checks) else 0


def _matrices(found: Inspection) -> Table:
    """One line for the matrices of all blocks that are alike but for their number."""
    alike: dict[tuple[str, ...], list[SiteRow]] = {}
    for row in found.sites:
        name = re.sub(r"\d+", "*", row.name).removesuffix(".weight")
        shape, pattern = f"{row.shape[0]}x{row.shape[1]}", ", ".join(row.conforms) or "none"
        alike.setdefault((name, row.layout, shape, row.dtype, pattern, row.runs), []).append(row)
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    widest = max((len(name) for name, *_ in alike), default=0)
    table.add_column("matrices", overflow="fold", no_wrap=widest <= _NAME_WIDTH)
    for title in ("", "layout", "shape", "kept", "bits", "MB", "pattern", "runs"):
        table.add_column(title)
    for (name, layout, shape, dtype, pattern, runs), rows in alike.items():
        table.add_row(
            Text(name), str(len(rows)), f"{layout} {dtype}", shape,
            _range([100 * row.density for row in rows], "%"), _range([row.bits for row in rows]),
            f"{sum(row.bytes for row in rows) / 1e6:.1f}", pattern, runs,
        )
    return table


def _range(values: Sequence[float], unit: str = "") -> str:
    low, high = f"{min(values):.1f}", f"{max(values):.1f}"
    return low + unit if low == high else f"{low} to {high}{unit}"


def _totals(found: Inspection) -> str:
    totals = found.totals
    return (
        f"{totals.prunable_density:.1%} of {totals.prunable / 1e6:.2f} M prunable weights kept, "
        f"{totals.density:.1%} of all {totals.weights / 1e6:.2f} M; "
        f"{totals.bytes / 1e6:.2f} MB stored, {totals.dense_bytes / 1e6:.2f} MB if dense."
    )


def run_pack(arguments: list[str]) -> int:
    """Write the folder in another layout and say what that changed."""
    from gossamer import store

    options = tyro.cli(Pack, args=arguments, prog="gossamer pack")
    quiet_libraries()
    store.pack(options.folder, options.out, layout=options.layout, overwrite=options.overwrite)
    before, after = folder_bytes(options.folder), folder_bytes(options.out)
    console().print(
        f"{options.folder}: {before / 1e6:.1f} MB, {options.out}: {after / 1e6:.1f} MB",
        markup=False, soft_wrap=True,
    )
    return 0


def folder_bytes(folder: Path) -> int:
    """Bytes of the weight files of a model folder."""
    return sum(path.stat().st_size for path in folder.glob("*.safetensors"))
