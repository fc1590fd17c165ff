"""Perplexities of pruned copies of one real language model, for the evidence of many systems."""

from __future__ import annotations

import copy
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from gossamer import data as texts
from gossamer.core.errors import DataError
from gossamer.evidence.record import Scale
from gossamer.measure import perplexity
from gossamer.models import Loaded, load

# (calibration sequences, their length, evaluation windows of 512 tokens)
SIZES: dict[Scale, tuple[int, int, int]] = {"quick": (8, 256, 3), "full": (64, 512, 32)}
PAIRS = (("wiki.valid.txt", "wiki.test.txt"), ("calibrate.txt", "evaluate.txt"))


@dataclass
class Trial:
    """One model, one calibration sample and one evaluation text; runs are remembered by name."""

    model: nn.Module
    calibration: Tensor
    evaluation: Tensor
    device: str
    results: dict[str, float] = field(default_factory=dict)
    reports: dict[str, dict[str, Any]] = field(default_factory=dict)

    def dense(self) -> float:
        """Perplexity of the model as it is."""
        if "dense" not in self.results:
            self.results["dense"] = perplexity(self.model, self.evaluation)
        return self.results["dense"]

    def run(self, name: str, system: Any) -> float:
        """Perplexity after a system pruned a copy of the model."""
        if name not in self.results:
            pruned = copy.deepcopy(self.model)
            outcome = system.run(pruned, self.calibration, device=self.device)
            self.reports[name] = outcome.report
            self.results[name] = perplexity(pruned, self.evaluation)
        return self.results[name]

    def figures(self) -> dict[str, Any]:
        """What was run, for the record."""
        return {
            "perplexity": {name: round(value, 3) for name, value in self.results.items()},
            "calibration_tokens": self.calibration.numel(),
            "evaluation_tokens": self.evaluation.numel(),
        }


def trial(seed: int, device: str, scale: Scale, data: Path | None, model: str = "smollm2") -> Trial:
    """SmolLM2 (or another model) with calibration drawn under the seed.

    Args:
        data: None for the embedded text; a folder with ``wiki.valid.txt`` and ``wiki.test.txt``
            (or a ``wikitext2`` folder of them), or with ``calibrate.txt`` and ``evaluate.txt``.

    Raises:
        DataError: the folder holds neither pair.
    """
    found = loaded(model)
    sequences, length, windows = SIZES[scale]
    calibrate, evaluate = _pair(data)
    sample = texts.calibration_tokens(texts.read_text(calibrate), _tokenizer(found),
                                      sequences=sequences, length=length, seed=seed)
    held_out = texts.windows(texts.read_text(evaluate), _tokenizer(found), length=512,
                             count=windows)
    home = torch.device(device)
    return Trial(copy.deepcopy(found.model).to(home), sample.to(home), held_out.to(home), device)


@lru_cache(maxsize=1)
def loaded(name: str) -> Loaded:
    """A model by name, kept for the next script."""
    return load(name)


def _tokenizer(loaded: Loaded) -> Any:
    if loaded.tokenizer is None:
        raise DataError(f"{loaded.name} has no tokenizer, so no text can be measured with it.")
    return loaded.tokenizer


def _pair(data: Path | None) -> tuple[str, str]:
    if data is None:
        return "embedded:calibration", "embedded:evaluation"
    for folder in (data, data / "wikitext2"):
        for calibrate, evaluate in PAIRS:
            if (folder / calibrate).exists() and (folder / evaluate).exists():
                return str(folder / calibrate), str(folder / evaluate)
    raise DataError(f"{data} holds neither wiki.valid.txt and wiki.test.txt nor calibrate.txt and "
                    "evaluate.txt; name a folder with one of these pairs.")


@dataclass
class Verdicts:
    """Inequalities that make up a claim; it holds when all of them do."""

    parts: list[tuple[str, bool]] = field(default_factory=list)

    def at_most(self, what: str, value: float, bound: float) -> None:
        """``value <= bound``; NaN fails."""
        self.parts.append((f"{what}: {value:.3g} <= {bound:.3g}", value <= bound))

    def at_least(self, what: str, value: float, bound: float) -> None:
        """``value >= bound``; NaN fails."""
        self.parts.append((f"{what}: {value:.3g} >= {bound:.3g}", value >= bound))

    def true(self, what: str, holds: bool) -> None:
        """A statement that is true or not."""
        self.parts.append((what, bool(holds)))

    @property
    def holds(self) -> bool:
        """All parts hold, and there is at least one."""
        return bool(self.parts) and all(holds for _, holds in self.parts)

    @property
    def because(self) -> str:
        """The parts that fail, or all of them where none does."""
        failed = [text for text, holds in self.parts if not holds]
        return "; ".join(f"not {text}" for text in failed) or "; ".join(t for t, _ in self.parts)
