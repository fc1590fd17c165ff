"""Who takes part in the race, how each decodes, and what its time adds to its record."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from dataclasses import replace

from torch import nn

from gossamer import store
from gossamer.core import sites
from gossamer.edit import Swap, apply
from gossamer.jobs.artefact import DTYPE, Ground
from gossamer.jobs.race import LENGTH, Loader, Race
from gossamer.jobs.record import Record
from gossamer.jobs.state import State
from gossamer.layout import Packed
from gossamer.measure import Decoding, by_transformers, decoder_takes, quickest_decoding
from gossamer.ops import PackedLinear, explain

FULL, HALF = "dense-fp32", "dense-bf16"  # as transformers decodes them
_OWN = {FULL: "dense-fp32-gossamer", HALF: "dense-bf16-gossamer"}


def entrants(state: State, ground: Ground, records: Sequence[Record]) -> dict[str, Loader]:
    """How each model of the race comes into memory and decodes, by id.

    Pruned models take the quickest way that they support. The dense ones take every way, so
    that the fastest of them is an honest baseline.
    """
    dense = ground.inputs.model
    found: dict[str, Loader] = {
        FULL: lambda: by_transformers(dense),
        HALF: lambda: by_transformers(store.load(state.model(HALF))),
    }
    if decoder_takes(dense, LENGTH):
        found[_OWN[FULL]] = lambda: quickest_decoding(dense, LENGTH)
        found[_OWN[HALF]] = functools.partial(_quickest, state, HALF)
    elif _has_dense_kernel(dense):
        found[_OWN[HALF]] = lambda: by_transformers(
            with_dense_kernel(store.load(state.model(HALF))))
    for record in records:
        if not record.baseline:
            found[record.point.id] = functools.partial(_quickest, state, record.point.id)
    return found


def with_own(records: Sequence[Record], raced: Race) -> list[Record]:
    """The records, each dense one followed by itself on gossamer's kernels where that was timed."""
    made: list[Record] = []
    for record in records:
        made.append(record)
        own = _OWN.get(record.point.id, "")
        if own in raced.timed:
            label = f"{record.point.label}, gossamer"
            system = {**record.point.system, "id": own, "label": label}
            point = replace(record.point, system=system)
            made.append(replace(record, point=point, sample=""))
    return made


def with_times(record: Record, raced: Race) -> Record:
    """The record with its times, and with the way and the kernels that decoded it."""
    timed = raced.timed.get(record.point.id)
    if timed is None:
        return record
    point = record.point
    cost = {
        **point.cost, "memory_bytes": float(timed.memory_bytes),
        "seconds_per_token": timed.seconds_per_token, "prefill_seconds": timed.prefill_seconds,
    }
    data = {**point.data, "decoded by": timed.way}
    return record.with_point(
        replace(point, cost=cost, env=raced.env, kernels_used=timed.kernels, data=data,
                fallbacks=timed.fallbacks))


def with_dense_kernel(model: nn.Module) -> nn.Module:
    """A bfloat16 model whose prunable layers run on gossamer's dense kernel, changed in place."""
    swaps = [
        Swap(site, PackedLinear.from_linear(site.view(), site.module.bias, layout="dense"))
        for site in sites(model) if isinstance(site.module, nn.Linear)
    ]
    apply(model, swaps)
    return model


def _quickest(state: State, id: str) -> Decoding:
    return quickest_decoding(store.load(state.model(id)), LENGTH)


def _has_dense_kernel(model: nn.Module) -> bool:
    """True where gossamer has a dense product of its own for one token of this model."""
    for site in sites(model):
        if isinstance(site.module, nn.Linear):
            values = site.view().to(DTYPE)
            words = explain(values[:1], Packed("dense", site.shape, {"values": values}))
            return not words.startswith("reference")
    return False
