"""The lessons' checks accept honest folders of a real model and catch planted false claims."""

from __future__ import annotations

import copy
import functools
import tempfile
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import nn

from gossamer.core import Keep, PatternError, Site, Support, blocks, nm, rows, select, sites
from gossamer.evidence.language import Verdicts, trial
from gossamer.evidence.record import Evidence, Scale
from gossamer.prune import Magnitude, SparseGPT, TenLessons, Wanda
from gossamer.store import lints, save

ONE_BLOCK = "*.0.*"


def run(seed: int, device: str, scale: Scale = "quick", data: Path | None = None) -> Evidence:
    """Planted claims on one block's weights; lessons 3 and 8 measured anew."""
    started = time.perf_counter()
    verdicts = Verdicts()
    language = trial(seed, device, scale, data)
    figures: dict[str, Any] = {"caught": claims(language.model, verdicts)}
    figures["lesson 3"] = kernels_decide(seed, verdicts)
    if scale == "full":
        figures["lesson 8"] = sparse_is_where_methods_differ(language, verdicts)
        figures |= language.figures()
    return Evidence(
        claim="Each check passes an honest folder and catches a false claim planted in a copy.",
        figures=figures, holds=verdicts.holds, because=verdicts.because,
        baseline="the same folder without the planted fault",
        seconds=time.perf_counter() - started,
    )


def claims(model: nn.Module, verdicts: Verdicts) -> dict[str, str]:
    """One honest folder and one folder a fault; the verdict of the check that should notice."""
    found: dict[str, str] = {}
    members = sites(model, ONE_BLOCK)

    def verdict(check: str, layout: str, choose: Callable[[Site], Support],
                fault: Callable[[nn.Module], None] | None = None) -> str:
        copied = nn.ModuleDict({"block": copy.deepcopy(_block(model))}).cpu()
        supports = {}
        for site in sites(copied):
            supports[site.name] = choose(site)
            site.write(supports[site.name].apply(site.view()))
        if fault is not None:
            fault(copied)
        with tempfile.TemporaryDirectory() as folder:
            target = Path(folder) / "model"
            save(copied, target, None if fault is not None else supports, layout=layout)
            checks = TenLessons().run(target).checks
        seen = next(c for c in checks if c.id == check)
        dead_rows = sum(seen.figures.get("dead_rows", {}).values())
        return str(dead_rows) if check == "dead-units" else seen.verdict

    expected = {
        "honest packed folder": ("packed-claim", verdict("packed-claim", "auto", _half), "ok"),
        "masked dense folder": ("packed-claim", verdict("packed-claim", "dense", _half), "warn"),
        "dead rows": ("dead-units", verdict("dead-units", "auto", _half), "0"),
        "one row zeroed": ("dead-units", verdict("dead-units", "auto", _half, _kill_a_row), "1"),
        "csr at 80 % density": ("saves-bytes", verdict("saves-bytes", "csr", _most), "not ok"),
        "bitmask at 80 % density": ("saves-bytes", verdict("saves-bytes", "bitmask", _most), "ok"),
    }
    for name, (check, seen, wanted) in expected.items():
        found[name] = f"{check}: {seen}"
        verdicts.true(f"{name} gives {check} {wanted} (saw {seen})",
                      seen != "ok" if wanted == "not ok" else seen == wanted)
    _labels(members[0], found, verdicts)
    return found


def _half(site: Site) -> Support:
    return select(site.view().abs(), rows(), Keep.fraction(0.5))


def _kill_a_row(copied: nn.Module) -> None:
    site = sites(copied)[0]
    weight = site.view().clone()
    weight[0] = 0
    site.write(weight)


def _labels(site: Site, found: dict[str, str], verdicts: Verdicts) -> None:
    """A 2:4 support passes its own pattern; one weight more in one group does not."""
    mask = select(site.view().abs(), nm(2, 4)).mask()
    row, column = (~mask).nonzero()[0].tolist()
    spoiled = mask.clone()
    spoiled[row, column] = True
    good, bad = Support.of(mask).to("cpu"), Support.of(spoiled).to("cpu")
    for name, support, wanted in (("2:4", good, True), ("2:4 with a third weight", bad, False)):
        try:
            support.check(nm(2, 4))
            holds = True
        except PatternError:
            holds = False
        found[name] = "conforms" if holds else "refused"
        verdicts.true(f"{name}: conforms is {wanted}", holds is wanted)
    budget = {"density": 0.5, "tokens": 4096, "seed": 0, "system": "a"}
    for name, other, due in (
        ("equal budgets", {**budget, "system": "b"}, "warn"),
        ("unequal densities", {**budget, "system": "b", "density": 0.6}, "fail"),
    ):
        verdict = lints.fair_comparison([budget, other]).verdict
        found[name] = verdict
        verdicts.true(f"{name}: comparison is {due} (saw {verdict})", verdict == due)


def _most(site: Site) -> Support:
    return select(site.view().abs(), rows(), Keep.fraction(0.8))


def _block(model: nn.Module) -> nn.Module:
    return blocks(model)[0][1]


def kernels_decide(seed: int, verdicts: Verdicts) -> dict[str, float]:
    """Lesson 3: a generic sparse product is slower than dense at 50 % and faster at 1 % density."""
    generator = torch.Generator().manual_seed(seed)
    weight, x = torch.randn(2048, 2048, generator=generator), torch.randn(2048, 16)
    dense = _least(lambda: weight @ x)
    ratios = {}
    for density in (0.5, 0.01):
        kept = torch.rand(weight.shape, generator=generator) < density
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)  # torch calls its own layout a beta
            csr = (weight * kept).to_sparse_csr()
        ratios[f"csr over dense at {density:.0%}"] = _least(functools.partial(
            torch.matmul, csr, x)) / dense
    verdicts.at_least("time of csr over dense at 50 % density", ratios["csr over dense at 50%"], 1)
    verdicts.at_most("time of csr over dense at 1 % density", ratios["csr over dense at 1%"], 1)
    return ratios


def _least(call: Callable[[], object]) -> float:
    times = []
    for _ in range(15):
        started = time.process_time()
        call()
        times.append(time.process_time() - started)
    return min(times)


def sparse_is_where_methods_differ(language: Any, verdicts: Verdicts) -> dict[str, float]:
    """Lesson 8: at high density all methods are close, at low density they spread."""
    spread = {}
    for density in (0.9, 0.4):
        systems = {"magnitude": Magnitude(density=density), "wanda": Wanda(density=density),
                   "sparsegpt": SparseGPT(density=density)}
        found = [language.run(f"{id} {density:.0%} kept", system)
                 for id, system in systems.items()]
        spread[f"worst over best at {density:.0%} kept"] = max(found) / min(found)
    near, far = spread.values()
    verdicts.at_most("spread of three methods at 90 % density", near, 1.2)
    verdicts.at_least("their spread at 40 % density", far, 2)
    return spread
