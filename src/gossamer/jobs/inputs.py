"""Inputs of a frontier: the model, calibration tokens, and held-out windows."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from gossamer import data, models
from gossamer.core import DataError, UnsupportedError
from gossamer.data import Text
from gossamer.jobs.job import FrontierJob
from gossamer.jobs.plan import WINDOW, Plan
from gossamer.measure.ways import takes_cache

_MOST_TEXT = 4_000_000  # characters of the evaluation text that are tokenised at most
_HELD_OUT = 0.3  # last part of a user's own text that perplexity is measured on
PROMPT = "The harbour was quiet that morning, and"


@dataclass(frozen=True)
class Inputs:
    """What every point is made from.

    Args:
        loaded: the dense model in float32 with its tokenizer.
        calibration: text to calibrate on.
        evaluation: held-out text.
        about: where the texts come from, in words.
        longest: tokens of a window at most.
    """

    loaded: models.Loaded
    calibration: Text
    evaluation: Text
    about: dict[str, str]
    longest: int

    @property
    def model(self) -> nn.Module:
        """The dense model."""
        return self.loaded.model

    @property
    def tokenizer(self) -> Any:
        """The model's tokenizer."""
        return self.loaded.tokenizer

    def windows(self, count: int | None = None) -> Tensor:
        """Held-out windows ``[count, length]``, at most as many as there are."""
        text = self.evaluation
        text = text[:_MOST_TEXT] if isinstance(text, str) else text
        return data.windows(text, self.tokenizer, min(WINDOW, self.longest), count)

    def sequences(self, plan: Plan, seed: int) -> Tensor:
        """Calibration tokens ``[sequences, length]``."""
        return data.calibration_tokens(
            self.calibration, self.tokenizer, plan.sequences, plan.length, seed)


def load_inputs(job: FrontierJob) -> Inputs:
    """Model and texts of a job.

    Raises:
        UnsupportedError: the model is no causal language model.
        DataError: it has no tokenizer, or a text is missing or too short.
    """
    loaded = models.load(job.model, dtype=torch.float32)
    if loaded.tokenizer is None:
        raise DataError(f"{job.model} has no tokenizer, and a frontier is measured on text.")
    if not takes_cache(loaded.model):
        raise UnsupportedError(
            f"{type(loaded.model).__name__} does not decode text token by token; a frontier "
            "measures causal language models."
        )
    calibration, evaluation, about = _texts(job)
    config = loaded.model.config
    longest = int(getattr(config, "max_position_embeddings", None) or WINDOW)
    return Inputs(loaded, calibration, evaluation, about, longest)


def text_hash(text: Text) -> str:
    """First sixteen digits of the SHA-256 of a text or of its tokens."""
    raw = text.encode() if isinstance(text, str) else text.contiguous().numpy().tobytes()
    return hashlib.sha256(raw).hexdigest()[:16]


def _texts(job: FrontierJob) -> tuple[Text, Text, dict[str, str]]:
    """Calibration text, evaluation text, and words for both."""
    if job.text is not None and job.evaluation is None:
        whole = data.read_text(job.text)
        first, last = _split(whole)
        names = (f"first {1 - _HELD_OUT:.0%} of {job.text}", f"last {_HELD_OUT:.0%} of {job.text}")
    else:
        sources = (job.text or "embedded:calibration", job.evaluation or "embedded:evaluation")
        first, last = (data.read_text(source) for source in sources)
        names = (_named(sources[0]), _named(sources[1]))
    about = {
        "calibration text": f"{names[0]} (SHA-256 {text_hash(first)}…)",
        "evaluation text": f"{names[1]} (SHA-256 {text_hash(last)}…)",
    }
    return first, last, about


def _named(source: str) -> str:
    part = source.removeprefix("embedded:")
    return f"embedded {part} text" if source.startswith("embedded:") else source


def _split(text: Text) -> tuple[Text, Text]:
    """The first part to calibrate on and the last part, held out."""
    if isinstance(text, Tensor) and text.dim() == 2 and len(text) > 1:
        cut = max(1, int(len(text) * (1 - _HELD_OUT)))
        return text[:cut], text[cut:]
    if isinstance(text, Tensor):
        flat = text.flatten()
        cut = int(len(flat) * (1 - _HELD_OUT))
        return flat[:cut], flat[cut:]
    cut = int(len(text) * (1 - _HELD_OUT))
    space = text.find(" ", cut)  # so that no word is cut in two
    cut = cut if space < 0 else space
    return text[:cut], text[cut:]
