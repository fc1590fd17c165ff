"""Linear layers whose inputs follow a known law: correlated, scaled by feature, or shifted."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from gossamer.core.errors import ConfigError


@dataclass(frozen=True, eq=False)
class Gaussian:
    """The law of the inputs: x = mean + factor z, with z white noise.

    Args:
        mean: ``[features]``.
        factor: ``[features, features]``.
    """

    mean: Tensor
    factor: Tensor

    def draw(self, tokens: int, seed: int) -> Tensor:
        """Fresh inputs ``[tokens, features]``; the same seed gives the same ones."""
        return self._draw(tokens, torch.Generator().manual_seed(seed))

    def _draw(self, tokens: int, generator: torch.Generator) -> Tensor:
        noise = torch.randn(tokens, len(self.mean), generator=generator)
        return self.mean + noise @ self.factor.t()

    def gram(self) -> Tensor:
        """E[x x^T] as float64 ``[features, features]``: the exact mean of a sample's Gram."""
        factor, mean = self.factor.double(), self.mean.double()
        return factor @ factor.t() + torch.outer(mean, mean)


@dataclass(frozen=True, eq=False)
class Layer:
    """A linear layer to prune, and a sample of its inputs.

    Args:
        weight: ``[outputs, features]``, white noise.
        input: ``[tokens, features]``, drawn from the truth.
        truth: the law of the inputs.
    """

    weight: Tensor
    input: Tensor
    truth: Gaussian


def correlated_layer(features: int = 256, outputs: int = 128, tokens: int = 4096,
                     condition: float = 30.0, seed: int = 0) -> Layer:
    """Inputs Q diag(1 ... 1/condition) z with a random rotation Q, spaced evenly in the log.

    Every feature has about the same norm, so scores that see only norms are blind here, while a
    solver that sees the Gram matrix can move the error into directions that carry little.

    >>> layer = correlated_layer(features=8, outputs=4, tokens=32, condition=10.0)
    >>> layer.weight.shape, layer.input.shape
    (torch.Size([4, 8]), torch.Size([32, 8]))
    """
    generator = torch.Generator().manual_seed(seed)
    truth = correlated(features, condition, generator)
    weight = torch.randn(outputs, features, generator=generator)
    return Layer(weight, truth._draw(tokens, generator), truth)


def scaled_layer(features: int = 256, outputs: int = 256, tokens: int = 2048,
                 decades: float = 1.0, seed: int = 0) -> Layer:
    """Independent inputs with a scale of their own each, 10 ** U(-decades, decades).

    Magnitude alone ranks badly here and magnitude times the input's norm well; with 0 decades
    all scales are 1 and the two agree.
    """
    generator = torch.Generator().manual_seed(seed)
    exponent = (2 * torch.rand(features, generator=generator) - 1) * decades
    truth = Gaussian(torch.zeros(features), torch.diag(10**exponent))
    weight = torch.randn(outputs, features, generator=generator)
    return Layer(weight, truth._draw(tokens, generator), truth)


def shifted_layer(features: int = 1024, outputs: int = 64, tokens: int = 2048,
                  shift: float = 1.0, seed: int = 0) -> Layer:
    """Inputs mu + N(0, 0.5^2) with means mu ~ N(0, shift^2), and weights 0.02 N(0, 1).

    The expected output of what is pruned is then not zero, which swaps of the mask can repair.
    """
    generator = torch.Generator().manual_seed(seed)
    mean = shift * torch.randn(features, generator=generator)
    truth = Gaussian(mean, 0.5 * torch.eye(features))
    weight = 0.02 * torch.randn(outputs, features, generator=generator)
    return Layer(weight, truth._draw(tokens, generator), truth)


def correlated(features: int, condition: float, generator: torch.Generator) -> Gaussian:
    """The law x = Q diag(s) z with s from 1 to 1 / condition, spaced evenly in the log.

    Raises:
        ConfigError: the condition number is less than 1.
    """
    if not condition >= 1:
        raise ConfigError(f"A condition number must be at least 1, not {condition}.")
    noise = torch.randn(features, features, generator=generator, dtype=torch.float64)
    rotation = torch.linalg.qr(noise).Q
    scales = torch.logspace(0, -math.log10(condition), features, dtype=torch.float64)
    return Gaussian(torch.zeros(features), (rotation * scales).float())
