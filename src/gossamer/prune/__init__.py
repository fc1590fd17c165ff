"""Keep a few of a trained model's weights, after training."""

from gossamer.prune.parts.sparsegpt import sparsegpt_layer
from gossamer.prune.result import Result
from gossamer.prune.run import Where
from gossamer.prune.systems import (
    DSnoT,
    FastSparseConvNets,
    Magnitude,
    SparseByteNN,
    SparseGPT,
    SparseLLM,
    STen,
    TenLessons,
    Wanda,
)

__all__ = ["DSnoT", "FastSparseConvNets", "Magnitude", "Result", "STen", "SparseByteNN",
           "SparseGPT", "SparseLLM", "TenLessons", "Wanda", "Where", "sparsegpt_layer"]
