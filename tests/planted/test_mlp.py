"""The planted network: its law, its scales, its output."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from gossamer.planted import relu_mlp


def test_the_output_is_torchs() -> None:
    mlp = relu_mlp()
    net = nn.Sequential(nn.Linear(64, 256), nn.ReLU(), nn.Linear(256, 64))
    with torch.no_grad():
        for value, ours in zip(net.parameters(), (mlp.up, mlp.up_bias, mlp.down, mlp.down_bias)):
            value.copy_(ours)
        assert torch.allclose(net(mlp.input), mlp.output(mlp.input), atol=1e-5)
        net[0].weight.zero_()
        changed = mlp.output(mlp.input, up=torch.zeros_like(mlp.up))
        assert torch.allclose(net(mlp.input), changed, atol=1e-5)
    assert not torch.equal(mlp.output(mlp.input, down=-mlp.down), mlp.output(mlp.input))


def test_scales_are_as_stated() -> None:
    mlp = relu_mlp(features=64, hidden=2048, condition=30.0)
    spectrum = torch.linalg.svdvals(mlp.truth.factor)
    assert float(spectrum[0] / spectrum[-1]) == pytest.approx(30, rel=1e-4)
    assert float(mlp.up_bias.std()) == pytest.approx(0.3, rel=0.1)
    assert float(mlp.up.std() * 8) == pytest.approx(1, rel=0.02)
    active = (mlp.input @ mlp.up.t() + mlp.up_bias > 0).float().mean()
    assert 0.4 < float(active) < 0.6  # neither dead nor linear


def test_a_seed_fixes_everything() -> None:
    one, two, other = relu_mlp(seed=1), relu_mlp(seed=1), relu_mlp(seed=2)
    for name in ("up", "up_bias", "down", "down_bias", "input"):
        assert torch.equal(getattr(one, name), getattr(two, name))
        assert not torch.equal(getattr(one, name), getattr(other, name))
