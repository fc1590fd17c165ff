"""A ReLU network of two layers on correlated inputs, with its own outputs as the target."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from gossamer.planted.layers import Gaussian, correlated


@dataclass(frozen=True, eq=False)
class ReluMlp:
    """The dense network down(relu(up(x))) and a sample of its inputs.

    Args:
        up: ``[hidden, features]``.
        up_bias: ``[hidden]``.
        down: ``[features, hidden]``.
        down_bias: ``[features]``.
        input: ``[tokens, features]``, drawn from the truth.
        truth: the law of the inputs.
    """

    up: Tensor
    up_bias: Tensor
    down: Tensor
    down_bias: Tensor
    input: Tensor
    truth: Gaussian

    def output(self, x: Tensor, up: Tensor | None = None, down: Tensor | None = None) -> Tensor:
        """``[tokens, features]``: the network's output, with other weights where given."""
        hidden = torch.relu(x @ (self.up if up is None else up).t() + self.up_bias)
        return hidden @ (self.down if down is None else down).t() + self.down_bias


def relu_mlp(features: int = 64, hidden: int = 256, tokens: int = 4096,
             condition: float = 30.0, seed: int = 0) -> ReluMlp:
    """A random network whose inputs have this condition number, and biases 0.3 N(0, 1).

    >>> mlp = relu_mlp(features=4, hidden=8, tokens=16)
    >>> mlp.output(mlp.input).shape
    torch.Size([16, 4])
    """
    generator = torch.Generator().manual_seed(seed)
    truth = correlated(features, condition, generator)

    def noise(*shape: int) -> Tensor:
        return torch.randn(shape, generator=generator)

    return ReluMlp(
        up=noise(hidden, features) / math.sqrt(features),
        up_bias=0.3 * noise(hidden),
        down=noise(features, hidden) / math.sqrt(hidden),
        down_bias=0.3 * noise(features),
        input=truth._draw(tokens, generator),
        truth=truth,
    )
