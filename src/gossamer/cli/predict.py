"""``gossamer predict``: a model's time on a device, from a roofline."""

from __future__ import annotations

import sys
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Annotated

import tyro
from rich.table import Table

from gossamer.cli.terminal import console, quiet_libraries
from gossamer.measure import operations
from gossamer.measure.hardware import (
    DEVICES,
    OpTime,
    Prediction,
    get_device,
    known_cpu,
    predict,
)
from gossamer.measure.hardware.device import CPU


@dataclass(frozen=True)
class Options:
    """Predict the time of a forward pass on a device, dense and sparse, and what bounds it."""

    model: Annotated[
        tyro.conf.Positional[str],
        tyro.conf.arg(metavar="MODEL", help="smollm2, a folder with config.json, or a hub id"),
    ]
    device: Annotated[
        str, tyro.conf.arg(metavar="DEVICE", help=f"cpu (this machine), {', '.join(DEVICES)}")
    ] = "cpu"
    density: Annotated[
        float | None,
        tyro.conf.arg(metavar="SHARE", help="of the prunable weights that is kept; else 0.5"),
    ] = None
    pattern: Annotated[
        str | None,
        tyro.conf.arg(metavar="PATTERN", help="unstructured, rows, 2:4, 64x64; else the device's"),
    ] = None
    batch: Annotated[int, tyro.conf.arg(metavar="N", help="samples at once")] = 1
    length: Annotated[int, tyro.conf.arg(metavar="N", help="tokens of a sample")] = 128
    context: Annotated[
        int, tyro.conf.arg(metavar="N", help="tokens in a decoder's cache; use --length 1")
    ] = 0
    dtype: Annotated[
        str | None, tyro.conf.arg(metavar="DTYPE", help="int8, float16, bfloat16 or float32")
    ] = None
    against: Annotated[
        str | None, tyro.conf.arg(metavar="DEVICE", help="also compare with this one, dense")
    ] = None


def run(arguments: list[str]) -> int:
    """Print the table of operations and what follows from it."""
    options = tyro.cli(Options, args=arguments, prog="gossamer predict")
    names = [name for name in (options.device, options.against) if name is not None]
    for name in names:
        if name != CPU:
            get_device(name)  # a wrong name is said before anything takes time
    from gossamer.models import outline  # transformers, which takes seconds
    quiet_libraries()
    work = operations(outline(options.model), options.length, options.context)
    if CPU in names and known_cpu() is None:
        sys.stderr.write("Measuring this CPU once, which takes about fifteen seconds.\n")
    device = get_device(options.device)
    found = predict(work, device, options.density, options.pattern, options.batch,
                    dtype=options.dtype)
    screen = console()
    screen.print(_table(found))
    lines = _lines(found)
    if options.against is not None:
        other = get_device(options.against)
        rival = predict(work, other, 1.0, None, options.batch)
        lines.append(f"Against {other.title} dense in {rival.dtype}: {found.over(rival):.2f}x the "
                     "throughput, both predicted.")
    for line in lines:
        screen.print(line, soft_wrap=True, markup=False)
    return 0


def _table(found: Prediction) -> Table:
    """Operations of equal shape in one row, the longest first."""
    kept = f"{found.density:.3g} kept, {found.pattern}"
    table = Table(title=f"{found.work.name} on {found.device.title}, {found.dtype}, {kept}")
    for name in ("operation", "times", "MMAC each", "ms in all", "share", "bound by", "layout",
                 "dense ms"):
        table.add_column(name, justify="left" if name in ("operation", "bound by", "layout")
                         else "right")
    groups = _grouped(found.times)
    for (what, bound, how), members in sorted(
            groups.items(), key=lambda item: -_total(item[1])):
        dense = sum(time.dense_seconds for time in members)
        table.add_row(
            what, str(len(members)), f"{members[0].op.macs / 1e6:,.1f}",
            f"{_total(members) * 1e3:.4g}", f"{_total(members) / found.latency:.0%}", bound, how,
            f"{dense * 1e3:.4g}",
        )
    return table


def _grouped(times: Iterable[OpTime]) -> dict[tuple[str, str, str], list[OpTime]]:
    groups: dict[tuple[str, str, str], list[OpTime]] = {}
    for time in times:
        op = time.op
        what = op.kind if op.shape is None else f"{op.kind} {op.shape[0]}x{op.shape[1]}"
        if op.shape is not None and not op.sparsifiable:
            what += ", kept dense"
        how = time.how if op.shape is not None else ""
        groups.setdefault((what, time.bound, how), []).append(time)
    return groups


def _total(times: Iterable[OpTime]) -> float:
    return sum(time.seconds for time in times)


def _lines(found: Prediction) -> list[str]:
    tokens = found.work.tokens
    rate = found.throughput * max(tokens, 1)
    unit = f"{rate:,.0f} tokens" if tokens else f"{rate:,.0f} samples"
    shares = sorted(found.shares().items(), key=lambda item: -item[1])
    bounds = ", ".join(f"{name} {share:.0%}" for name, share in shares if share >= 0.005)
    return [
        f"Predicted: {found.latency * 1e3:.4g} ms a batch of {found.batch}, {unit} a second, "
        f"{found.speedup:.2f}x its dense time of {found.dense_latency * 1e3:.4g} ms.",
        f"Bound by {bounds}. Weights take {found.memory / 1e6:,.1f} MB.",
        *found.notes,
        f"A model's output, not a measurement. Figures of the device: {found.device.source}.",
    ]
