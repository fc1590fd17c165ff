"""Keep a few of a trained model's weights, after training."""

from gossamer.prune.parts.sparsegpt import sparsegpt_layer
from gossamer.prune.result import Result
from gossamer.prune.run import Where
from gossamer.prune.systems import DSnoT, Magnitude, SparseGPT, SparseLLM, TenLessons, Wanda

__all__ = ["DSnoT", "Magnitude", "Result", "SparseGPT", "SparseLLM", "TenLessons", "Wanda",
           "Where", "sparsegpt_layer"]
