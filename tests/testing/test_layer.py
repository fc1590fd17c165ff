"""check_layer passes PackedLinear and fails on broken layers."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from gossamer.ops import PackedLinear
from gossamer.testing import check_layer
from tests.held import EXACT, held

WEIGHT, BIAS = torch.randn(6, 16, dtype=torch.float64), torch.randn(6, dtype=torch.float64)


def linear(x: Tensor) -> Tensor:
    return x @ WEIGHT.t() + BIAS


class Good(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("weight", WEIGHT.float())
        self.register_buffer("bias", BIAS.float())

    def forward(self, x: Tensor) -> Tensor:
        return x @ self.weight.t() + self.bias


class OnlyBatches(Good):
    def forward(self, x: Tensor) -> Tensor:
        return torch.mm(x, self.weight.t()) + self.bias


class Off(Good):
    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x) * 1.001


class NoGradient(Good):
    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x.detach()) + 0 * x.sum()


class Breaks(Good):
    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x) * (1.0 if bool(x.detach().sum() < 1e9) else 2.0)


class Forgets(Good):
    """Keeps half of what it needs outside the state dict."""

    def __init__(self) -> None:
        super().__init__()
        del self.bias
        self.register_buffer("bias", BIAS.float(), persistent=False)
        self.register_buffer("scale", torch.ones(()))

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x) * self.scale

    def load_state_dict(self, state: object, *args: object) -> object:
        self.bias.zero_()
        return super().load_state_dict(state, *args)  # type: ignore[arg-type]


class Shared(Good):
    def __deepcopy__(self, memo: object) -> nn.Module:
        twin = Good()
        twin._buffers["weight"], twin._buffers["bias"] = self.weight, self.bias
        return twin


X = torch.randn(4, 16)


@pytest.mark.parametrize("name", EXACT)
def test_packed_layers_pass(name: str) -> None:
    weight = torch.randn(6, 16)
    support = held(name, weight.abs())
    layer = PackedLinear.from_linear(weight, torch.ones(6), support, name)
    dense = support.apply(weight).double()
    check_layer(layer, lambda x: x @ dense.t() + 1, X)


def test_a_plain_layer_passes() -> None:
    check_layer(Good(), linear, X)


@pytest.mark.parametrize(("layer", "message"), [
    (Off, "output of a batch is off"), (NoGradient, "gradient of the input is off"),
    (Shared, "shares memory"), (Forgets, "loads the state dict gives another output"),
])
def test_broken_layers_fail(layer: type[nn.Module], message: str) -> None:
    with pytest.raises(AssertionError, match=message):
        check_layer(layer(), linear, X)


def test_layers_that_break_in_use_fail() -> None:
    with pytest.raises(RuntimeError):
        check_layer(OnlyBatches(), linear, X)
    with pytest.raises(torch._dynamo.exc.TorchDynamoException):
        check_layer(Breaks(), linear, X)
