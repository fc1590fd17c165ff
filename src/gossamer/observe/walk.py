"""walk: through a model block by block, with exactly the statistics that were asked for."""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from gossamer.core.errors import DataError, UnsupportedError
from gossamer.core.memory import PeakMemory
from gossamer.core.sites import Site, blocks, sites
from gossamer.core.support import Support
from gossamer.observe.blocks import Batch, Call, trace
from gossamer.observe.collect import Collector, prove_experts
from gossamer.observe.forecast import Forecast, forecast
from gossamer.observe.journal import Finished, Journal
from gossamer.observe.progress import Progress, silent
from gossamer.observe.source import Source, as_source, at_hand, outside_at_hand
from gossamer.observe.stats import Stats

Needs = Callable[[Site], Collection[str]]


@dataclass(frozen=True)
class Visit:
    """One stop of the walk: a block, or one group of its sites where the walk is sequential."""

    index: int
    name: str
    module: nn.Module
    sites: list[Site]
    stats: dict[str, Stats]


@dataclass(frozen=True)
class Outcome:
    """What a visitor did: the supports of the sites it wrote, and notes that JSON can hold."""

    supports: dict[str, Support] = field(default_factory=dict)
    notes: dict[str, Any] = field(default_factory=dict)


Visitor = Callable[[Visit], Outcome]


@dataclass(frozen=True)
class Plan:
    """How to walk.

    Args:
        needs: statistics to collect for a site.
        match: shell pattern for site names; the others are left alone.
        sequential: visit groups of sites in the order in which they run, with the groups before
            them already edited; costs a pass over the calibration data for each group.
        device: where one block at a time computes; None means where the model is.
        dtype: compute dtype of a checkpoint's blocks; None means as stored.
        workspace: bytes that the visitor needs for one site of ``(rows, cols)``.
    """

    needs: Needs
    match: str | None = None
    sequential: bool = False
    device: torch.device | str | None = None
    dtype: torch.dtype | None = None
    workspace: Callable[[int, int], int] = lambda rows, cols: 4 * rows * cols


@dataclass
class Walked:
    """The outcome of a walk over all blocks."""

    supports: dict[str, Support] = field(default_factory=dict)
    notes: dict[str, Any] = field(default_factory=dict)
    forecast_bytes: int = 0
    peak_bytes: int = 0
    seconds: float = 0.0


def walk(
    model: nn.Module | Source,
    batches: Sequence[Batch],
    visit: Visitor,
    plan: Plan,
    *,
    journal: Journal | None = None,
    progress: Progress = silent,
) -> Walked:
    """Visit every block in order; its inputs come from the blocks before it as edited.

    For each block: run it on all batches and collect statistics, let ``visit`` edit its sites,
    run it again and hand its output on. One block at a time is on the compute device.

    Args:
        model: a module, or a Source such as a checkpoint whose blocks are read when needed.
        batches: keyword arguments of the model's forward, such as ``{"input_ids": ids}``; may be
            empty where no site needs statistics.
        visit: edits sites in place through ``Site.write``.
        plan: what to collect and where to compute.
        journal: finished blocks are recorded in it, and taken from it instead of being redone.

    Raises:
        DataError: no batches, or an activation that is not finite (the site is named).
        UnsupportedError: no prunable site, or a model whose blocks do not run once in order.
    """
    source = as_source(model)
    asking = [site for site in sites(source.model, plan.match) if plan.needs(site)]
    images = [site.name for site in asking if site.kind == "conv2d"]
    if images:
        raise UnsupportedError(
            f"{images[0]} is a convolution, whose inputs gossamer takes no statistics of; prune by "
            "magnitude, or leave convolutions out with match=."
        )
    if not batches and asking:
        raise DataError("There is no calibration data: give at least one sequence of tokens.")
    return _Walker(source, batches, visit, plan, journal, progress).run()


class _Walker:
    def __init__(self, source: Source, batches: Sequence[Batch], visit: Visitor, plan: Plan,
                 journal: Journal | None, progress: Progress) -> None:
        self.source, self.batches, self.visit, self.plan = source, batches, visit, plan
        self.journal, self.progress = journal, progress
        self.blocks = blocks(source.model)
        self.by_block = group_sites(sites(source.model, plan.match), self.blocks)
        home = next(source.model.parameters()).device
        chosen = plan.device if plan.device is not None else home
        self.device = torch.device("cpu" if str(chosen) == "meta" else chosen)
        self.result = Walked()

    def run(self) -> Walked:
        started = time.perf_counter()
        expected = forecast(self.source, self.by_block, self.batches, self.plan, self.device)
        with torch.no_grad(), _EvalMode(self.source.model), PeakMemory(self.device) as peak:
            self._walk(expected)
        self.result.forecast_bytes, self.result.peak_bytes = expected.total, peak.bytes
        self.result.seconds = time.perf_counter() - started
        return self.result

    def _walk(self, expected: Forecast) -> None:
        total = len(self.blocks)
        done = self.journal.done if self.journal else 0
        self.progress(0, total, f"reading; peak memory forecast {expected.words()}")
        for index in range(done):
            self._replay(index)
        if done == total:
            return
        hidden: list[Tensor] | None = None
        calls: list[list[Call]] | None = None
        if self.blocks[0][0] and self.batches:  # without repeated blocks it runs as a whole
            traced = trace(self.source.model, self.blocks, self._on_device(), self._outside,
                           self._first)
            hidden, calls = traced.hidden, traced.calls
            if done and self.journal:
                hidden = self.journal.hidden()
        for index in range(done, total):
            self.progress(index, total, self.blocks[index][0] or "model")
            hidden = self._block(index, hidden, calls)
        self.progress(total, total, "done")

    def _on_device(self) -> list[Batch]:
        return [{k: v.to(self.device) for k, v in batch.items()} for batch in self.batches]

    def _outside(self) -> Any:
        return outside_at_hand(self.source, self.blocks, self.device, self.plan.dtype)

    def _first(self) -> Any:
        name, block = self.blocks[0]
        return at_hand(self.source, block, name, self.device, self.plan.dtype)

    def _replay(self, index: int) -> None:
        """Take a finished block from the journal; its weights go into a model in memory."""
        assert self.journal is not None
        finished = self.journal.block(index)
        self._note(Outcome(finished.supports, finished.notes))
        for site in self.by_block[index]:
            if site.name in finished.weights and not getattr(site.module, site.param).is_meta:
                site.write(finished.weights[site.name])

    def _note(self, outcome: Outcome) -> None:
        self.result.supports.update(outcome.supports)
        self.result.notes.update(outcome.notes)

    def _block(self, index: int, hidden: list[Tensor] | None,
               calls: list[list[Call]] | None) -> list[Tensor] | None:
        name, block = self.blocks[index]
        stored = {site.name: getattr(site.module, site.param).dtype
                  for site in self.by_block[index]}
        with at_hand(self.source, block, name, self.device, self.plan.dtype):
            runner = _Runner(block, index, hidden, calls, self._on_device(), self.device)
            merged = Outcome({}, {})
            for group in self._groups(index, runner):
                collector = Collector(group, self.plan.needs)
                with collector.attached():
                    runner.run(collector.end_batch)
                outcome = self.visit(Visit(index, name, block, group, collector.stats))
                merged.supports.update(outcome.supports)
                merged.notes.update(outcome.notes)
                del collector
            self._round(index, stored)
            last = index + 1 == len(self.blocks)
            after = hidden if last or hidden is None else runner.run(None)
            self._note(merged)
            if self.journal and merged.supports:
                weights = {s.name: s.view().to("cpu", stored[s.name])
                           for s in self.by_block[index] if s.name in merged.supports}
                self.journal.finish(index, Finished(weights, merged.supports, merged.notes),
                                    after or [])
        return after

    def _round(self, index: int, stored: dict[str, torch.dtype]) -> None:
        """Weights computed in a wider dtype are rounded to what will be stored, so that the next
        block sees the model as it will be loaded."""
        for site in self.by_block[index]:
            if site.view().dtype != stored[site.name]:
                site.write(site.view().to(stored[site.name]))

    def _groups(self, index: int, runner: _Runner) -> list[list[Site]]:
        members = self.by_block[index]
        if not members:
            return []
        experts = [s for s in members if s.kind == "expert"]
        if experts:
            runner.prove_experts(experts)
        if not self.plan.sequential:
            return [members]
        probe = Collector(members, lambda site: ())
        with probe.attached():
            runner.run(probe.end_batch, first_only=True)
        return probe.groups


class _Runner:
    """Runs one block (or a model without blocks) over all batches."""

    def __init__(self, block: nn.Module, index: int, hidden: list[Tensor] | None,
                 calls: list[list[Call]] | None, batches: list[Batch],
                 device: torch.device) -> None:
        self.block, self.index, self.hidden, self.calls = block, index, hidden, calls
        self.batches, self.device = batches, device

    def run(self, each: Callable[[], None] | None, first_only: bool = False) -> list[Tensor]:
        out: list[Tensor] = []
        for b in range(1 if first_only else len(self.batches)):
            if self.hidden is None or self.calls is None:
                self.block(**self.batches[b])
            else:
                hidden = self.hidden[b].to(self.device)
                result = self.calls[b][self.index].run(self.block, hidden, self.device)
                if each is None:
                    out.append(result.to(self.hidden[b].device))
                    self.hidden[b] = out[-1]
            if each is not None:
                each()
        return out

    def prove_experts(self, experts: list[Site]) -> None:
        """Check on the first batch that the experts compute what is assumed of them."""
        module = experts[0].module
        given: list[Any] = []
        handle = module.register_forward_pre_hook(
            lambda _, args, kwargs: given.append((*args, *kwargs.values())), with_kwargs=True)
        try:
            self.run(lambda: None, first_only=True)
        finally:
            handle.remove()
        prove_experts(module, experts[0].name, given[0])


def group_sites(
    found: Sequence[Site], members: Sequence[tuple[str, nn.Module]]
) -> list[list[Site]]:
    """The sites of each block, in the order of the blocks."""
    grouped = []
    for _, block in members:
        inside = {id(module) for module in block.modules()}
        grouped.append([site for site in found if id(site.module) in inside])
    return grouped


class _EvalMode:
    """The model is in evaluation mode inside this context."""

    def __init__(self, model: nn.Module) -> None:
        self.model = model
        self.training = [module for module in model.modules() if module.training]

    def __enter__(self) -> None:
        self.model.eval()

    def __exit__(self, *_: Any) -> None:
        for module in self.training:
            module.training = True

