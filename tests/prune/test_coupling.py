"""Couplings: what is permuted together is found, the rest is held, and outputs never change."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from gossamer.core import SupportError
from gossamer.models.mobilenet import SMALL, MobileNet
from gossamer.prune.parts.coupling import couplings
from tests.models.test_mobilenet import trained_looking


class Residual(nn.Module):
    """A stem, a block with a shortcut of its own, one without, a gate, and a flattened head."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.norm = nn.Conv2d(3, 8, 3, padding=1), nn.BatchNorm2d(8)
        self.one, self.two = nn.Conv2d(8, 12, 3, padding=1), nn.Conv2d(12, 8, 1)
        self.wide, self.short = nn.Conv2d(8, 16, 3, 2, 1), nn.Conv2d(8, 16, 1, 2)
        self.squeeze, self.excite = nn.Conv2d(16, 4, 1), nn.Conv2d(4, 16, 1)
        self.deep = nn.Conv2d(16, 16, 3, padding=1, groups=16)
        self.hidden, self.head = nn.Linear(16 * 9, 10), nn.Linear(10, 5)

    def forward(self, x: Tensor) -> Tensor:
        x = functional.relu(self.norm(self.stem(x)), inplace=True)
        x = x + self.two(functional.relu(self.one(x)))
        x = functional.relu6(self.wide(x) + self.short(x))
        narrow = functional.relu(self.squeeze(x.mean((2, 3), keepdim=True)))
        gate = torch.sigmoid(self.excite(narrow))
        x = functional.adaptive_avg_pool2d(self.deep(x * gate), 3)
        return self.head(functional.relu(self.hidden(x.flatten(1))))


class Held(nn.Module):
    """Every channel here goes somewhere that the trace does not know, but for ``free``'s."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b = nn.Conv2d(3, 8, 1), nn.Conv2d(3, 8, 1)
        self.grouped, self.free = nn.Conv2d(8, 8, 1, groups=2), nn.Conv2d(16, 6, 1)
        self.last, self.scale = nn.Conv2d(6, 8, 1), nn.Parameter(torch.randn(8, 1, 1))
        self.softmax = nn.Conv2d(8, 8, 1)

    def forward(self, x: Tensor) -> Tensor:
        a, b = self.a(x), self.grouped(self.b(x))
        y = self.last(self.free(torch.cat([a, b], 1)))
        y = self.softmax(y * self.scale).softmax(1)
        return y.unflatten(1, (2, 4)).transpose(1, 2)


class PaddedShortcut(nn.Module):
    """The option A of CIFAR's ResNets: every second pixel, channels padded with zeros."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.one = nn.Conv2d(3, 8, 3, padding=1), nn.Conv2d(8, 16, 3, 2, 1)
        self.two = nn.Conv2d(16, 16, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        x = functional.relu(self.stem(x))
        padded = functional.pad(x[:, :, ::2, ::2], (0, 0, 0, 0, 4, 4))
        return functional.relu(self.two(functional.relu(self.one(x))) + padded)


class Shared(nn.Module):
    """One convolution used twice, so that its outputs are its inputs."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.again, self.last = nn.Conv2d(3, 8, 1), nn.Conv2d(8, 8, 1), nn.Linear(8, 2)

    def forward(self, x: Tensor) -> Tensor:
        return self.last(self.again(functional.relu(self.again(self.first(x)))).amax((2, 3)))


def names(model: nn.Module, image: Tensor) -> list[set[str]]:
    """Tensors by name and role of every coupling."""
    known = {id(t): name for name, t in [*model.named_parameters(), *model.named_buffers()]}
    return [{f"{known[id(end.tensor)]} {end.role}" for end in found.ends}
            for found in couplings(model, image)]


@pytest.mark.parametrize(("build", "count"), [
    (Residual, 5), (Held, 1), (PaddedShortcut, 1), (Shared, 1),
    (lambda: MobileNet(10, 0.25, SMALL, channels=3), 1 + len(SMALL)),
])
def test_permuting_every_coupling_changes_no_output(build: type[nn.Module], count: int) -> None:
    torch.manual_seed(0)
    model = build()
    if isinstance(model, MobileNet):
        trained_looking(model)
    model = model.double().eval()
    x = torch.randn(2, 3, 12, 12, dtype=torch.float64)
    wanted = model(x)
    found = couplings(model, x)
    assert len(found) == count
    before = {name: value.clone() for name, value in model.state_dict().items()}
    orders = [torch.randperm(one.size) for one in found]
    for one, order in zip(found, orders):
        one.permute(order)
    changed = [name for name, value in model.state_dict().items()
               if not torch.equal(value, before[name])]
    assert len(changed) >= 2 * count
    torch.testing.assert_close(model(x), wanted, rtol=1e-10, atol=1e-10)
    for one, order in zip(found, orders):
        one.permute(order.argsort())
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())


def test_additions_and_depthwise_layers_tie_what_they_must() -> None:
    found = names(Residual().eval(), torch.zeros(2, 3, 12, 12))
    stem = next(one for one in found if "stem.weight out" in one)
    assert stem == {"stem.weight out", "stem.bias channel", "norm.weight channel",
                    "norm.bias channel", "norm.running_mean channel", "norm.running_var channel",
                    "one.weight in", "two.weight out", "two.bias channel", "wide.weight in",
                    "short.weight in"}
    wide = next(one for one in found if "wide.weight out" in one)
    assert wide == {"wide.weight out", "wide.bias channel", "short.weight out",
                    "short.bias channel", "squeeze.weight in", "excite.weight out",
                    "excite.bias channel", "deep.weight channel", "deep.bias channel",
                    "hidden.weight in"}


def test_what_is_not_known_keeps_its_order() -> None:
    (free,) = names(Held().eval(), torch.zeros(1, 3, 4, 4))
    assert free == {"free.weight out", "free.bias channel", "last.weight in"}


def test_a_forgotten_edge_would_be_noticed() -> None:
    model = Residual().double().eval()
    x = torch.randn(2, 3, 12, 12, dtype=torch.float64)
    wanted = model(x)
    found = next(one for one in couplings(model, x) if one.size == 16)
    for end in found.ends[1:]:
        end.tensor.data.copy_(end.tensor.index_select(end.dim, torch.arange(16 * end.repeat).roll(
            end.repeat)))
    assert not torch.allclose(model(x), wanted, rtol=1e-3)


def test_training_mode_comes_back_and_bad_orders_are_refused() -> None:
    model = Residual().train()
    model.norm.eval()
    found = couplings(model, torch.zeros(2, 3, 12, 12))
    assert model.training
    assert not model.norm.training
    with pytest.raises(SupportError, match="name each of them once"):
        found[0].permute(torch.zeros(found[0].size, dtype=torch.long))
