"""Generators with known truth, and how well it was recovered."""

from gossamer.planted.layers import Gaussian, Layer, correlated_layer, scaled_layer, shifted_layer
from gossamer.planted.mlp import ReluMlp, relu_mlp
from gossamer.planted.recovery import Recovery, recovery, relative_output_error
from gossamer.planted.splade import SpladeLike, TopicMixture, splade_like

__all__ = [
    "Gaussian", "Layer", "Recovery", "ReluMlp", "SpladeLike", "TopicMixture", "correlated_layer",
    "recovery", "relative_output_error", "relu_mlp", "scaled_layer", "shifted_layer",
    "splade_like",
]
