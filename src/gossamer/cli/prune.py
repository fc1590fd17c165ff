"""``gossamer prune``: one system, one model, one packed folder."""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Generic, Literal, TypeVar

import torch
import tyro
from rich.table import Table

from gossamer.cards import pruning_system
from gossamer.cli.settings import build, named_system, settings_type
from gossamer.cli.terminal import Report, console, progress, quiet_libraries
from gossamer.core.errors import DataError

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

    from gossamer.prune import Result

DEFAULT = "sparsegpt"
DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}
Settings = TypeVar("Settings")


def _arg(metavar: str | None, help: str) -> Any:
    return tyro.conf.arg(metavar=metavar, help=help)


@dataclass(frozen=True)
class Options(Generic[Settings]):
    """Prune a model with one system and save it packed."""

    model: Annotated[
        tyro.conf.Positional[str], _arg("MODEL", "smollm2, a model folder, or a hub id")
    ]
    out: Annotated[Path, _arg("DIR", "folder for the pruned model")]
    settings: tyro.conf.OmitArgPrefixes[Settings]
    system: Annotated[str, _arg("ID", "see `gossamer systems`")] = DEFAULT
    text: Annotated[
        str, _arg("SOURCE", "calibration: a text or token file, embedded:NAME or hub:NAME")
    ] = "embedded:calibration"
    sequences: Annotated[int, _arg("N", "calibration sequences")] = 128
    length: Annotated[int, _arg("N", "tokens in a sequence")] = 512
    seed: Annotated[int, _arg("N", "which sequences of the text")] = 0
    layout: Annotated[
        str, _arg("NAME", "auto is the smallest, decode the smallest that the Decoder "
                     "reads; dense loads in plain transformers")
    ] = "auto"
    dtype: Annotated[
        Literal["float32", "bfloat16", "float16"], _arg(None, "of the saved values")
    ] = "bfloat16"
    device: Annotated[str | None, _arg("DEVICE", "where one block at a time computes")] = None
    stream: Annotated[
        tyro.conf.FlagCreatePairsOff[bool],
        _arg(None, "read a model folder block by block; it never lies in memory as a whole"),
    ] = False
    workdir: Annotated[
        Path | None,
        _arg("DIR", "finished blocks, to go on after a stop; OUT.work, removed when done"),
    ] = None
    overwrite: Annotated[
        tyro.conf.FlagCreatePairsOff[bool], _arg(None, "replace a model that OUT holds")
    ] = False


def run(arguments: list[str]) -> int:
    """Load, calibrate, prune, save, and say what came of it."""
    kind = settings_type(pruning_system(named_system(arguments, DEFAULT)))
    options = tyro.cli(Options[kind], args=arguments, prog="gossamer prune")  # type: ignore[valid-type]
    system = build(options.system, options.settings)
    with progress() as report:
        result = _pruned(options, system, report)
    _print(result, options)
    return 0


def _pruned(options: Options[Any], system: Any, report: Report) -> Result:
    from gossamer import data
    from gossamer.store.atomic import check_target

    check_target(options.out, options.overwrite)  # before the long part
    text = data.read_text(options.text)
    source, tokenizer = _source(options)
    if tokenizer is None:
        raise DataError(f"{options.model} has no tokenizer, which calibration on text needs.")
    tokens = data.calibration_tokens(
        text, tokenizer, options.sequences, options.length, options.seed
    )
    workdir = options.workdir or options.out.with_name(options.out.name + ".work")
    result: Result = system.run(
        source, tokens, workdir=workdir, device=options.device, progress=report
    )
    result.save(
        options.out, layout=options.layout, dtype=DTYPES[options.dtype], tokenizer=tokenizer,
        overwrite=options.overwrite,
    )
    if options.workdir is None:
        shutil.rmtree(workdir)
    return result


def _source(options: Options[Any]) -> tuple[Any, PreTrainedTokenizerBase | None]:
    """The model, or the checkpoint that its blocks are read from, and the tokenizer."""
    from gossamer import models

    quiet_libraries()
    if not options.stream:
        loaded = models.load(options.model)
        return loaded.model, loaded.tokenizer
    return models.Checkpoint(options.model), models.load_tokenizer(options.model)


def _print(result: Result, options: Options[Any]) -> None:
    facts = result.report
    errors = [site.get("output_error") for site in facts["sites"]]
    known = [error for error in errors if error is not None]
    table = Table(show_header=False, box=None)
    table.add_row("system", f"{facts['system']}, pattern {facts['pattern']}")
    table.add_row("kept", f"{facts['density']:.1%} of {len(facts['sites'])} matrices")
    if known:
        mean = sum(known) / len(known)
        table.add_row("output error", f"{mean:.4f} of a layer's output energy, mean over layers")
    table.add_row("calibration", f"{facts['calibration']['tokens']} tokens")
    memory = facts["memory"]
    table.add_row("peak memory", f"{memory['peak'] / 2**20:.0f} MiB, "
                                 f"forecast {memory['forecast'] / 2**20:.0f} MiB")
    table.add_row("time", f"{facts['seconds']:.0f} s")
    screen = console()
    screen.print(table)
    screen.print(f"Saved to {options.out}; look at it with: gossamer inspect {options.out}",
                 markup=False, soft_wrap=True)
