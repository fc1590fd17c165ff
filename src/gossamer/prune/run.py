"""The one driver of all pruning systems: calibrate, budget, prune block by block, report."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from gossamer.core.allocation import SiteSummary, allocate, outlier_ratio
from gossamer.core.errors import ConfigError, DataError
from gossamer.core.keep import Keep
from gossamer.core.pattern import Pattern
from gossamer.core.sites import Site, already_packed, blocks, packed_layers, sites
from gossamer.core.sketch import Sketch
from gossamer.observe import (
    InMemory,
    Journal,
    Outcome,
    Plan,
    Progress,
    Source,
    Stats,
    Visit,
    Walked,
    as_source,
    silent,
    tensor_hash,
    walk,
)
from gossamer.prune.parts.scores import activation_scaled, finite
from gossamer.prune.parts.solver import Budget, Solved, Solver, relative_error
from gossamer.prune.result import Result

Block = Callable[[Visit, dict[str, Budget]], Iterable[tuple[str, Solved]]]
Data = Tensor | Sequence[dict[str, Tensor]] | None
Folder = str | Path | None
Device = torch.device | str | None


@dataclass(frozen=True)
class Recipe:
    """What a system hands to the driver.

    Args:
        pattern, density, allocation, match: the budget (see `fields`).
        needs: statistics for a site.
        block: yields (site name, what to write) for the sites of one visit, one at a time, so
            that one new weight is in memory beside the block.
        sequential: see `observe.Plan`.
        workspace: bytes that solving a site of ``(rows, cols)`` takes.
    """

    pattern: Pattern
    density: float
    allocation: str
    match: str | None
    needs: Callable[[Site], Collection[str]]
    block: Block
    sequential: bool = False
    workspace: Callable[[int, int], int] = lambda rows, cols: 16 * rows * cols


def per_site(solver: Solver) -> Block:
    """Prune every site by itself."""

    def block(visit: Visit, budgets: dict[str, Budget]) -> Iterator[tuple[str, Solved]]:
        for site in visit.sites:
            weight, stats = finite(site.view(), site.name), stats_of(visit, site)
            yield site.name, solver(site.name, weight, stats, budgets[site.name])

    return block


def stats_of(visit: Visit, site: Site) -> Stats:
    """The site's statistics; empty ones where nothing was asked for, or never reached."""
    return visit.stats.get(site.name) or Stats(site.name, frozenset())


@dataclass(frozen=True)
class Where:
    """Where a run computes and what it leaves on disk.

    Args:
        workdir: folder for finished blocks; a killed run with the same settings resumes there.
        device: compute device of one block at a time; None is where the model is.
        progress: called with (blocks done, blocks, text).
    """

    workdir: Folder = None
    device: Device = None
    progress: Progress = silent


def run(system: Any, recipe: Recipe, model: nn.Module | Source, data: Data,
        where: Where | None = None) -> Result:
    """Prune a model with a recipe; the weights are written in place, block by block.

    Raises:
        PatternError: a site's width does not fit the pattern (the site is named).
        DataError: empty or non-finite calibration, weights or activations (the site is named).
        ConfigError: a contradiction in the configuration.
        UnsupportedError: nothing to prune, or layers that are packed.
    """
    where = where or Where()
    source = as_source(model)
    if packed := packed_layers(source.model):
        raise already_packed(source.model, packed)
    found = sites(source.model, recipe.match)
    for site in found:
        recipe.pattern.fits(*site.shape, site.name)
    batches = to_batches(data, source.model)
    config = {"id": system.card.id, **asdict(system)}
    on_cpu = where.device is None or torch.device(where.device).type == "cpu"
    # Half precision products are slow or absent on most CPUs.
    dtype = torch.float32 if on_cpu and not isinstance(source, InMemory) else None
    plan = Plan(recipe.needs, recipe.match, recipe.sequential, where.device, dtype,
                recipe.workspace)
    journal = None
    if where.workdir is not None:
        journal = Journal(where.workdir, fingerprint(config, batches, source, found))
    elif not isinstance(source, InMemory):
        raise ConfigError("Pruning from a checkpoint on disk needs a work folder; give workdir=.")
    budgets = budget(recipe, found, source, batches, plan, where.progress)
    walked = walk(source, batches, _visitor(recipe, budgets), plan, journal=journal,
                  progress=where.progress)
    report = _report(config, recipe, walked, batches, plan)
    return Result(source.model, walked.supports, report, source, journal)


def _visitor(recipe: Recipe, budgets: dict[str, Budget]) -> Callable[[Visit], Outcome]:
    def visit(stop: Visit) -> Outcome:
        supports, notes = {}, {}
        by_name = {site.name: site for site in stop.sites}
        for name, solved in recipe.block(stop, budgets):
            site = by_name[name]
            before = site.view().float()
            stats = stats_of(stop, site)
            supports[name] = solved.support.to("cpu")
            notes[name] = {
                "weight_error": float((solved.weight - before).square().sum()
                                      / before.square().sum().clamp_min(1e-30)),
                "output_error": relative_error(before, solved.weight, stats),
            }
            site.write(solved.weight.to(before.device))
        return Outcome(supports, notes)

    return visit


def budget(recipe: Recipe, found: Sequence[Site], source: Source,
           batches: Sequence[dict[str, Tensor]], plan: Plan, progress: Progress,
           ) -> dict[str, Budget]:
    """What every site keeps, by the recipe's allocation."""
    pattern = recipe.pattern
    if pattern.exact is not None or recipe.allocation == "uniform" or recipe.density == 1:
        keep = Keep.fraction(recipe.density)
        return {site.name: Budget(pattern, keep) for site in found}
    summaries = {site.name: SiteSummary(site.shape) for site in found}
    if recipe.allocation in ("global", "owl"):
        summaries = survey(source, batches, plan, progress)
    counts = allocate(recipe.allocation, summaries, recipe.density)
    sizes = {site.name: site.shape[0] * site.shape[1] for site in found}
    return {name: Budget(pattern, Keep.fraction(counts[name] / size))
            for name, size in sizes.items()}


def survey(source: Source, batches: Sequence[dict[str, Tensor]], plan: Plan,
           progress: Progress) -> dict[str, SiteSummary]:
    """Scores of the dense model's sites as sketches, from one walk that edits nothing.

    The sites of one block share its outlier ratio, as in OWL's released code.
    """
    if not batches:
        raise DataError("Allocation global and owl compare activation-scaled weights; give "
                        "calibration data.")
    found: dict[str, SiteSummary] = {}
    largest = max(sum(p.numel() for p in block.parameters()) for _, block in blocks(source.model))

    def visit(stop: Visit) -> Outcome:
        scores = [activation_scaled(finite(site.view(), site.name), stats_of(stop, site))
                  for site in stop.sites]
        ratio = outlier_ratio(torch.cat([score.flatten() for score in scores]))
        for site, score in zip(stop.sites, scores):
            found[site.name] = SiteSummary(site.shape, Sketch.of(score), ratio)
        return Outcome()

    dense = Plan(lambda site: ("input_sq",), plan.match, False, plan.device, plan.dtype,
                 workspace=lambda rows, cols: 8 * largest)
    walk(source, batches, visit, dense,
         progress=lambda done, total, text: progress(done, total, f"survey: {text}"))
    return found


def to_batches(data: Data, model: nn.Module) -> list[dict[str, Tensor]]:
    """Calibration tokens ``[n, length]`` (or ready batches) as keyword arguments of the model."""
    if data is None:
        return []
    if not isinstance(data, Tensor):
        return [dict(batch) for batch in data]
    if data.dim() != 2 or data.numel() == 0 or data.is_floating_point():
        raise DataError(
            f"Calibration tokens must be whole numbers [sequences, length], not {data.dtype} of "
            f"shape {tuple(data.shape)}."
        )
    config = getattr(model, "config", None)
    words = getattr(config, "vocab_size", None)
    if words is not None and not 0 <= int(data.min()) <= int(data.max()) < words:
        raise DataError(f"A calibration token lies outside the vocabulary of {words}; "
                        "use the model's own tokenizer.")
    together = max(1, 2048 // data.shape[1])
    return [{"input_ids": part.long()} for part in torch.split(data, together)]


def fingerprint(config: dict[str, Any], batches: Sequence[dict[str, Tensor]], source: Source,
                found: Sequence[Site]) -> str:
    """What must be equal for a run to be resumed: settings, data, and the model's make-up."""
    digest = hashlib.sha256(json.dumps(config, sort_keys=True, default=str).encode())
    digest.update(tensor_hash([t for batch in batches for t in batch.values()]).encode())
    for site in found:
        weight = site.view()
        digest.update(f"{site.name}{tuple(weight.shape)}".encode())
    samples = [p.flatten()[:64].float() for p in source.model.parameters() if not p.is_meta]
    digest.update(tensor_hash(samples).encode())
    digest.update(str(getattr(source, "fingerprint", "")).encode())
    return digest.hexdigest()


def _report(config: dict[str, Any], recipe: Recipe, walked: Walked,
            batches: Sequence[dict[str, Tensor]], plan: Plan) -> dict[str, Any]:
    rows = [
        {"name": name, "shape": list(support.shape), "density": support.density,
         **walked.notes.get(name, {})}
        for name, support in walked.supports.items()
    ]
    kept = sum(s.nnz for s in walked.supports.values())
    total = sum(s.shape[0] * s.shape[1] for s in walked.supports.values())
    return {
        "system": config["id"], "config": config, "pattern": str(recipe.pattern),
        "density": kept / max(1, total), "sites": rows,
        "calibration": {
            "batches": len(batches),
            "tokens": sum(b["input_ids"].numel() for b in batches if "input_ids" in b),
        },
        "memory": {"forecast": walked.forecast_bytes, "peak": walked.peak_bytes,
                   "device": str(plan.device or "model")},
        "seconds": walked.seconds,
    }
