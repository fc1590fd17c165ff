"""Fast Sparse ConvNets: the schedule by hand, exact zeros, block choice, the 2/3 rule, the cost."""

from __future__ import annotations

import json

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn

from gossamer.cards import get_system
from gossamer.core import ConfigError, DataError, PatternError, Support, UnsupportedError, block
from gossamer.models.mobilenet import SMALL, MobileNet, fold_batchnorm
from gossamer.ops import PackedConv2d
from gossamer.ops.conv import RELU6
from gossamer.prune import FastSparseConvNets
from gossamer.prune.parts.gradual import Cubic
from gossamer.prune.parts.pointwise import (
    Rates,
    packed_edits,
    pointwise,
    rows_together,
    seconds,
    whole_blocks,
)


def net() -> MobileNet:
    torch.manual_seed(0)
    return MobileNet(4, 0.25, SMALL[:3], channels=1, stride=1)


def images(count: int = 96) -> tuple[Tensor, Tensor]:
    """Bars in four directions, so that there is something to learn."""
    generator = torch.Generator().manual_seed(0)
    labels = torch.randint(0, 4, (count,), generator=generator)
    x = 0.1 * torch.randn(count, 1, 8, 8, generator=generator)
    for image, label in zip(x, labels.tolist()):
        image[0, label * 2] += 1
    return x, labels


def test_the_schedule_is_the_published_one() -> None:
    schedule = Cubic(0.9, 100, 300, 50)
    assert schedule.at(200) == pytest.approx(0.9 * (1 - 0.5**3))
    assert schedule.at(0) == 0
    assert schedule.at(100) == 0
    assert schedule.at(300) == schedule.at(1000) == pytest.approx(0.9)
    with pytest.raises(ConfigError, match="begin before it ends"):
        Cubic(0.9, 10, 10, 1)


@given(st.floats(0.01, 0.99), st.integers(0, 50), st.integers(1, 50), st.integers(1, 60))
def test_the_schedule_never_falls_and_always_arrives(
    final: float, begin: int, length: int, every: int
) -> None:
    schedule = Cubic(final, begin, begin + length, every)
    due = [step for step in range(begin + length + 5) if schedule.due(step)]
    shares = [schedule.at(step) for step in due]
    assert shares == sorted(shares)
    assert due[-1] == begin + length
    assert shares[-1] == pytest.approx(final)


@pytest.mark.parametrize("rows", [1, 2, 4])
def test_training_ends_with_exact_zeros_in_the_pointwise_layers_alone(rows: int) -> None:
    model, system = net(), FastSparseConvNets(sparsity=0.75, rows=rows, steps=40)
    result = system.run(model, images())
    found = pointwise(model)
    assert list(result.supports) == [site.name for site in found]
    assert all("pointwise" in site.name for site in found)
    for site in found:
        support = result.supports[site.name]
        assert torch.equal(site.view(), support.apply(site.view()))
        assert support.nnz == pytest.approx(site.view().numel() / 4, abs=4)
        if rows > 1:
            support.check(block(rows, 1))
    for name, parameter in model.named_parameters():
        if "depthwise.conv" in name or name == "stem.conv.weight":
            assert bool((parameter != 0).all())
    assert model.training
    assert not any(name.endswith("_pruned") for name, _ in model.named_buffers())
    json.dumps(result.report, allow_nan=False)


def test_the_same_seed_gives_the_same_net() -> None:
    one, two = net(), net()
    FastSparseConvNets(steps=12).run(one, images())
    torch.manual_seed(5)
    FastSparseConvNets(steps=12).run(two, images())
    for a, b in zip(one.parameters(), two.parameters()):
        assert torch.equal(a, b)


@torch.no_grad()
def test_a_packed_net_computes_what_the_pruned_one_does() -> None:
    model, system = net(), FastSparseConvNets(sparsity=0.8, steps=20)
    with torch.enable_grad():
        system.run(model, images())
    fold_batchnorm(model)
    x = images(5)[0]
    wanted = model(x)
    handle = system.pack(model, RELU6)
    packed = [m for m in model.modules() if isinstance(m, PackedConv2d)]
    assert len(packed) == 3
    assert {layer.layout for layer in packed} == {"csr"}
    torch.testing.assert_close(model(x), wanted, rtol=1e-4, atol=1e-4)
    assert handle is not None
    handle.remove()
    torch.testing.assert_close(model(x), wanted)


def test_a_net_that_is_too_dense_stays_dense() -> None:
    conv = nn.Sequential(nn.Conv2d(9, 8, 1))
    kept = 24  # of 72: exactly a third, which is not more than two thirds of zeros
    with torch.no_grad():
        conv[0].weight.view(-1)[kept:] = 0
    assert packed_edits(pointwise(conv)) == []
    assert FastSparseConvNets().pack(conv) is None
    assert type(conv[0]) is nn.Conv2d
    with torch.no_grad():
        conv[0].weight.view(-1)[kept - 1] = 0
    FastSparseConvNets().pack(conv)
    assert isinstance(conv[0], PackedConv2d)


def test_the_choice_of_blocks_follows_their_fill() -> None:
    mask = torch.zeros(8, 10, dtype=torch.bool)
    assert rows_together(mask) == 1
    mask[:4, :5] = True  # 20 of 20 cells
    assert rows_together(mask) == 4
    mask[:2, 5] = True  # 22 of 24 cells
    assert rows_together(mask) == 4
    mask[2:4, 6:8] = True  # 26 of 32 cells in fours, all in twos
    assert rows_together(mask) == 2
    mask[7, 9] = True  # 27 of 28 in twos
    assert rows_together(mask) == 2
    assert rows_together(torch.eye(8, dtype=torch.bool)) == 1
    assert rows_together(torch.ones(7, 3, dtype=torch.bool)) == 1
    assert int(whole_blocks(mask, 4).sum()) == 4 * (8 + 1)


def test_the_cost_is_the_slower_of_arithmetic_and_bytes() -> None:
    support = Support.of(torch.rand(64, 64) < 0.5)
    rates = Rates(operations=1e9, bytes=1e15)
    assert seconds(support, 100, 1, rates) == pytest.approx(support.nnz * 100 / 0.5e9)
    assert seconds(support, 100, 4, rates) == pytest.approx(support.nnz * 100 / 0.8e9)
    moved = 4 * 100 * 128 + 8 * support.nnz
    assert seconds(support, 100, 1, Rates(1e15, 1e9)) == pytest.approx(moved / 1e9)


def test_it_is_registered() -> None:
    assert get_system("fast-sparse-convnets") is FastSparseConvNets


def test_bad_input_is_one_clear_sentence() -> None:
    with pytest.raises(ConfigError):
        FastSparseConvNets(sparsity=1.0)
    with pytest.raises(ConfigError, match="begin before it ends"):
        FastSparseConvNets(begin=0.8, end=0.5)
    with pytest.raises(DataError, match="images"):
        FastSparseConvNets().run(net(), (torch.zeros(4, 8, 8), torch.zeros(4)))
    with pytest.raises(DataError, match="loss is nan at step 0"):
        FastSparseConvNets(steps=10).run(net(), (images()[0] * float("nan"), images()[1]))
    with pytest.raises(UnsupportedError, match="no 1x1 convolution"):
        FastSparseConvNets().run(nn.Sequential(nn.Conv2d(3, 8, 3)), images())
    odd = nn.Sequential(nn.Conv2d(1, 6, 1), nn.AdaptiveAvgPool2d(1), nn.Flatten())
    with pytest.raises(PatternError, match=r"0\.weight"):
        FastSparseConvNets(rows=4).run(odd, images())
