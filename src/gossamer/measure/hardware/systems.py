"""Published hardware as systems of the registry; importing this file registers them.

S4: Yen, Xiao, Xu, "S4: a High-sparsity, High-performance AI Accelerator", 2022, arXiv 2207.08006.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, Literal

import annotated_types as at
from torch import nn

from gossamer.cards import Card, system
from gossamer.core import validate
from gossamer.measure.hardware.predict import Prediction, predict
from gossamer.measure.operations import Op, Work

CARD = Card(
    id="s4",
    family="hardware",
    title="S4",
    year=2022,
    paper="Yen, Xiao, Xu, 2022, arXiv 2207.08006",
    keeps="32/R of every 32 consecutive inputs of a weight (bank-balanced), R up to 32",
    reported=(
        "several times the speed of an NVIDIA T4 with sparse models, as the abstract says",
        "on the chip a sparse larger model is more accurate and quicker than a dense smaller one, "
        "as the abstract says",
    ),
    ours=(
        "model output: at batch 64 in int8 BERT-large is 7.0 times as quick at R = 8 and 15.5 "
        "times at R = 32, ResNet-50 with its first layer dense 6.5 and 13.5 times; sparse "
        "BERT-large overtakes dense BERT-base at R = 4",
        "measured, one thread of an AMD EPYC with AVX2, 4096x4096, float32, one input, three "
        "seeds: layout condensed at 4:32 is 3.2 to 4.1 times and at 2:32 5.3 to 6.7 times as quick "
        "as torch's dense product; layout nm, smaller by a quarter, is slower than dense (0.4 to "
        "0.5 and 0.5 to 0.8 times), bound by unpacking",
        "measured, digits, 15 trainings: a net of width 128 at R = 8 reaches 96.7 %, a dense one "
        "of width 31 and equal predicted throughput 96.6 %",
    ),
    differs=(
        "a roofline in the place of the chip: every time is a model's output, not a measurement",
        "the chip's rates and bandwidth could not be checked against a data sheet; all of them "
        "are fields of a `Device`, and speed-ups depend on their ratios alone",
        "the paper gives figures and no equations: the n:32 pattern, 5 bits of place a value, a "
        "vector unit of 1/16 the rate, activations that stay on the chip, and the efficiencies "
        "(0.6 of the peak rate, 0.8 of the bandwidth) are choices made here",
    ),
)


@system(CARD)
@dataclass(frozen=True)
class S4:
    """Predict a model's latency and throughput on the chip at a sparsity rate; nothing changes.

    >>> S4(rate=32).run([Op("w", "linear", 10**9, 10**6, sparsifiable=True)]).pattern
    '1:32'
    """

    rate: Annotated[Literal[1, 2, 4, 8, 16, 32], "R: 1/R of the prunable weights is kept"] = 8
    batch: Annotated[int, at.Ge(1), "samples at once"] = 1
    length: Annotated[int, at.Ge(1), "tokens of a sample, for language models"] = 128
    dtype: Annotated[Literal["int8", "bfloat16"], "of weights and activations"] = "bfloat16"

    def __post_init__(self) -> None:
        validate(self)

    def run(self, model: nn.Module | Work | Sequence[Op], data: None = None) -> Prediction:
        """Time, bounds, and the speed-up over the dense model on the same chip."""
        return predict(model, "s4", 1 / self.rate, None, self.batch, self.length, self.dtype)
