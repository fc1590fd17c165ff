"""Wanda beats magnitude where inputs differ in scale, and is magnitude where they do not."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from gossamer.core import Keep, Support, rows, select, unstructured
from gossamer.evidence.language import Verdicts, trial
from gossamer.evidence.record import Evidence, Scale
from gossamer.observe import Stats
from gossamer.planted import relative_output_error, scaled_layer
from gossamer.prune import Magnitude, Wanda
from gossamer.prune.parts.scores import activation_scaled

HALF = Keep.fraction(0.5)


def run(seed: int, device: str, scale: Scale = "quick", data: Path | None = None) -> Evidence:
    """Planted layers, then SmolLM2 at 50 % and, at full scale, 2:4 and 60 % sparsity."""
    started = time.perf_counter()
    verdicts = Verdicts()
    figures: dict[str, Any] = {"planted": planted(seed, verdicts)}
    language = trial(seed, device, scale, data)
    language.dense()
    magnitude, wanda = Magnitude(), Wanda()
    verdicts.at_most("perplexity at 50 % against 0.3 of magnitude",
                     language.run("wanda 50%", wanda),
                     0.3 * language.run("magnitude 50%", magnitude))
    exact = all(row["density"] == _row_density(row["shape"][1])
                for row in language.reports["wanda 50%"]["sites"])
    verdicts.true("every row keeps exactly its share", exact)
    if scale == "full":
        verdicts.at_most("perplexity at 2:4 against 0.2 of magnitude",
                         language.run("wanda 2:4", Wanda(pattern="2:4")),
                         0.2 * language.run("magnitude 2:4", Magnitude(pattern="2:4")))
        verdicts.at_most("perplexity at 60 % sparsity against magnitude",
                         language.run("wanda 60%", Wanda(density=0.4)),
                         language.run("magnitude 60%", Magnitude(density=0.4)))
    figures |= language.figures()
    return Evidence(
        claim="Scaling weights by their input's norm and comparing inside rows prunes far better "
              "than magnitude, at the same counts.",
        figures=figures, holds=verdicts.holds, because=verdicts.because,
        baseline="magnitude over the whole matrix; a control with the norms shuffled over inputs",
        seconds=time.perf_counter() - started,
    )


def planted(seed: int, verdicts: Verdicts) -> dict[str, float]:
    """Inputs whose scales spread over two decades, shuffled scales as control, equal scales."""
    layer = scaled_layer(seed=seed)
    generator = torch.Generator().manual_seed(seed)
    norms = layer.input.norm(dim=0)
    score = _wanda(layer.weight, layer.input)
    fresh = layer.truth.draw(4096, seed + 1)

    def error(support: Support) -> float:
        return relative_output_error(layer.weight, support.apply(layer.weight), fresh.t() @ fresh)

    ours = error(select(score, rows(), HALF))
    base = error(select(layer.weight.abs(), unstructured(), HALF))
    shuffled = layer.weight.abs() * norms[torch.randperm(len(norms), generator=generator)]
    control = error(select(shuffled, rows(), HALF))
    verdicts.at_most("planted output error against 0.1 of magnitude", ours, 0.1 * base)
    verdicts.at_most("against the shuffled norms", ours, 0.5 * control)
    white = scaled_layer(decades=0.0, seed=seed)
    equal = torch.ones_like(white.input)
    same = select(_wanda(white.weight, equal), rows(), HALF) == select(
        white.weight.abs(), rows(), HALF)
    verdicts.true("with equal input norms the mask is magnitude's by rows", same)
    return {"wanda": ours, "magnitude": base, "shuffled norms": control}


def _wanda(weight: Tensor, x: Tensor) -> Tensor:
    stats = Stats("planted", frozenset({"input_sq"}))
    stats.add(x)
    return activation_scaled(weight, stats)


def _row_density(width: int) -> float:
    return HALF.units(width) / width
