"""Forecast of a walk's peak memory, before anything is computed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import nn

from gossamer.core.sites import Site, blocks
from gossamer.observe.blocks import Batch
from gossamer.observe.source import InMemory, Source
from gossamer.observe.stats import stats_bytes

if TYPE_CHECKING:
    from gossamer.observe.walk import Plan


@dataclass(frozen=True)
class Forecast:
    """Bytes above what is in use when the walk begins, by what takes them."""

    block: int
    hidden: int
    statistics: int
    workspace: int
    forward: int
    outside: int
    record: int

    @property
    def total(self) -> int:
        """Peak: the greatest of reading the embeddings, of solving the widest block (the C library
        keeps what its forward pass freed), and of recording it."""
        working = max(self.statistics + self.workspace + self.forward, self.record)
        return self.hidden + max(self.block + working, self.outside + self.forward)

    def words(self) -> str:
        """The total in MiB or GiB."""
        mib = self.total / 2**20
        return f"{mib:.0f} MiB" if mib < 1024 else f"{mib / 1024:.2f} GiB"


def forecast(
    source: Source, by_block: Sequence[Sequence[Site]], batches: Sequence[Batch], plan: Plan,
    device: torch.device,
) -> Forecast:
    """Forecast the peak memory of `walk` on its compute device (statistics are kept there)."""
    model = source.model
    members = blocks(model)
    itemsize = _itemsize(model, plan)
    tokens = sum(_tokens(batch) for batch in batches)
    widest_batch = max((_tokens(batch) for batch in batches), default=0)
    found = [site for group in by_block for site in group]
    narrow = min(min(site.shape) for site in found)
    width = _hidden_width(model, narrow)
    wide = max(max(site.shape) for site in found)
    held = isinstance(source, InMemory) and str(device) == str(next(model.parameters()).device)
    block = 0 if held else max(_parameter_bytes(b, itemsize) for _, b in members)
    statistics = max((_statistics(group, plan, tokens, itemsize) for group in by_block), default=0)
    on_host = 0 if device.type == "cuda" else tokens * width * itemsize
    outside = 0 if held else _outside_bytes(model, members)
    return Forecast(
        block=block,
        hidden=on_host,
        statistics=statistics,
        workspace=max((plan.workspace(*site.shape) for site in found), default=0),
        forward=widest_batch * (4 * wide + 8 * width) * max(itemsize, 4),
        outside=outside,
        record=max(_parameter_bytes(b, _stored_itemsize(model)) for _, b in members),
    )


def _tokens(batch: Batch) -> int:
    ids = batch.get("input_ids")
    if ids is not None:
        return ids.numel()
    first = next(iter(batch.values()))
    return first.shape[0] * 256  # images: a patch count that covers common sizes


def _itemsize(model: nn.Module, plan: Plan) -> int:
    if plan.dtype is not None:
        return plan.dtype.itemsize
    return _stored_itemsize(model)


def _stored_itemsize(model: nn.Module) -> int:
    return next(model.parameters()).dtype.itemsize


def _hidden_width(model: nn.Module, fallback: int) -> int:
    return int(getattr(getattr(model, "config", None), "hidden_size", 0) or fallback)


def _parameter_bytes(module: nn.Module, itemsize: int) -> int:
    return sum(p.numel() for p in module.parameters()) * itemsize


def _outside_bytes(model: nn.Module, members: Sequence[tuple[str, nn.Module]]) -> int:
    inside = {id(m) for _, block in members for m in block.modules()}
    sizes = [
        sum(p.numel() * p.element_size() for p in m.parameters(recurse=False))
        for m in model.modules() if id(m) not in inside and not isinstance(m, nn.Linear)
    ]
    return max(sizes, default=0)


def _statistics(group: Sequence[Site], plan: Plan, tokens: int, itemsize: int) -> int:
    """Sites that share an input share statistics; equal width and needs is taken for that."""
    total, seen = 0, set()
    for site in group:
        needs = frozenset(plan.needs(site))
        key = (site.shape[1], needs, site.index)
        output_like = site.shape[0] <= site.shape[1]  # an output projection has its own input
        if key not in seen or output_like:
            total += stats_bytes(needs, site.shape[1], tokens, itemsize)
        seen.add(key)
    return total
