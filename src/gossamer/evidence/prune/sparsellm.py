"""SparseLLM lowers the error of a whole feed-forward part below SparseGPT's, layer by layer."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

from torch import Tensor

from gossamer.core import Keep, columns
from gossamer.evidence.language import Verdicts, trial
from gossamer.evidence.record import Evidence, Scale
from gossamer.planted import ReluMlp, relu_mlp
from gossamer.prune import SparseGPT, SparseLLM, sparsegpt_layer
from gossamer.prune.parts.solver import Budget, Solved
from gossamer.prune.parts.sparsellm import Alternation, Penalties, Problem, alternate


def run(seed: int, device: str, scale: Scale = "quick", data: Path | None = None) -> Evidence:
    """Planted ReLU networks at 70 % and 80 % sparsity, then SmolLM2 at 70 % (full scale)."""
    started = time.perf_counter()
    verdicts = Verdicts()
    figures: dict[str, Any] = {"planted": planted(seed, verdicts)}
    if scale == "full":
        language = trial(seed, device, scale, data)
        language.dense()
        ours = language.run("sparsellm 70%", SparseLLM(density=0.3))
        base = language.run("sparsegpt 70%", SparseGPT(density=0.3))
        verdicts.at_most("perplexity at 70 % sparsity against 1.02 of SparseGPT", ours, 1.02 * base)
        figures |= language.figures()
    return Evidence(
        claim="Pruning both matrices of a feed-forward part against shared auxiliary activations "
              "gives a lower output error than pruning each by itself.",
        figures=figures, holds=verdicts.holds, because=verdicts.because,
        baseline="SparseGPT on each matrix (the alternation's own first epoch)",
        seconds=time.perf_counter() - started,
    )


def planted(seed: int, verdicts: Verdicts) -> dict[str, Any]:
    """Output error over SparseGPT's on calibration and fresh inputs of a ReLU network."""
    figures: dict[str, Any] = {}
    for density in (0.3, 0.2):
        net = relu_mlp(seed=seed)
        problem = Problem(net.input, net.output(net.input), net.up, net.down, None,
                          {"up": net.up_bias, "down": net.down_bias}, "relu")
        budget = Budget(columns(128), Keep.fraction(density))

        def prune(which: str, weight: Tensor, gram: Tensor, budget: Budget = budget) -> Solved:
            updated, support, _ = sparsegpt_layer(weight, gram, budget)
            return Solved(updated, support)

        ours = alternate(problem, Penalties(0.1, 0.1, 0.1, 4), prune)
        base = alternate(problem, Penalties(0.1, 0.1, 0.1, 1), prune)
        fresh = net.truth.draw(4096, seed + 1000)
        calibration = min(ours.losses) / base.losses[0]
        unseen = _error(net, ours, fresh) / _error(net, base, fresh)
        name = f"{1 - density:.0%} sparsity"
        figures[name] = {"calibration": calibration, "fresh": unseen}
        verdicts.at_most(f"calibration error at {name} against SparseGPT", calibration, 0.9)
        verdicts.at_most(f"fresh error at {name} against SparseGPT", unseen, 0.92)
        falls = all(after <= before * (1 + 1e-6) for _, before, after in ours.steps)
        verdicts.true(f"each of {len(ours.steps)} closed-form steps lowers its loss", falls)
        verdicts.true("the masks have the asked density",
                      all(abs(s.support.density - density) < 0.01 for s in ours.solved.values()))
    return figures


def _error(net: ReluMlp, found: Alternation, x: Tensor) -> float:
    out = net.output(x, found.solved["up"].weight, found.solved["down"].weight)
    return float((net.output(x) - out).square().sum())
