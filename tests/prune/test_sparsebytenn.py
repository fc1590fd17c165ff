"""SparseByteNN: groups by hand, orders that lose nothing, exact zeros, packing, the time model."""

from __future__ import annotations

import itertools
import json

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from gossamer.cards import get_system
from gossamer.core import ConfigError, DataError, Pattern, SupportError, UnsupportedError
from gossamer.models.mobilenet import MobileNet, fold_batchnorm
from gossamer.ops import PackedConv2d
from gossamer.ops.conv import RELU6, fallbacks
from gossamer.prune import SparseByteNN
from gossamer.prune.parts import kernel_groups
from gossamer.prune.parts.group_time import GroupTime, Measured, fit
from gossamer.prune.parts.kernel_groups import kernels, rearrange, share_retained
from gossamer.prune.parts.regroup import regroup, retained
from tests.models.test_mobilenet import trained_looking
from tests.prune.test_coupling import Residual
from tests.prune.test_fast_sparse_convnets import images

PAIRS = ((32, 1), (36, 2), (64, 1))


def net() -> MobileNet:
    torch.manual_seed(0)
    return trained_looking(MobileNet(4, 1.0, PAIRS, channels=1, stride=1))


def test_the_best_inputs_of_every_group_by_hand() -> None:
    conv = nn.Conv2d(16, 4, (1, 2), bias=False)
    with torch.no_grad():
        conv.weight.fill_(0.01)
        conv.weight[1, 5, 0, 1] = -3.0   # one large weight keeps its input for the whole group
        conv.weight[:, 9] = 0.5          # eight of a half are more than it
        conv.weight[2, 2] = 0.1
    model = nn.Sequential(conv)
    (layer,) = kernels(model)
    assert layer.kept(0.875) == 2
    mask = layer.choose(0.875, 4).mask().view(4, 16, 2)
    assert mask.any(2).any(0).nonzero().flatten().tolist() == [5, 9]
    assert bool(mask[:, [5, 9]].all())
    mask = layer.choose(0.8125, 4).mask().view(4, 16, 2)
    assert mask[0].any(1).nonzero().flatten().tolist() == [2, 5, 9]


@given(st.integers(1, 40), st.integers(1, 20), st.sampled_from([1, 4, 9]), st.integers(0, 99))
@settings(max_examples=60, deadline=None)
def test_every_group_keeps_equally_many_whole_kernels(
    rows: int, channels: int, places: int, seed: int
) -> None:
    torch.manual_seed(seed)
    side = int(places**0.5)
    conv = nn.Conv2d(channels + 15, rows, side)
    (layer,) = kernels(nn.Sequential(conv))
    share = seed / 100
    mask = layer.choose(share, 8).mask().view(rows, -1, places)
    assert torch.equal(mask.any(2), mask.all(2))
    for first in range(0, rows, 8):
        group = mask[first : first + 8].all(2)
        assert bool((group == group[0]).all())
        assert int(group[0].sum()) == max(1, channels + 15 - round(share * (channels + 15)))


def test_a_small_search_finds_the_best_order_there_is() -> None:
    torch.manual_seed(1)
    score = torch.rand(6, 5)
    best = max(retained([score[list(order)]], [2], 2)
               for order in itertools.permutations(range(6)))
    assert retained([score[regroup([score], [2], 2)]], [2], 2) >= 0.99 * best


@given(st.integers(1, 30), st.integers(1, 12), st.integers(1, 9), st.integers(0, 1000))
@settings(max_examples=60, deadline=None)
def test_no_order_is_worse_than_the_one_there_was(
    rows: int, inputs: int, size: int, seed: int
) -> None:
    torch.manual_seed(seed)
    scores = [torch.rand(rows, inputs), torch.rand(rows, 7) ** 4]
    kept = [max(1, inputs // 2), 3]
    order = regroup(scores, kept, size, seed)
    assert sorted(order.tolist()) == list(range(rows))
    after = retained([score[order] for score in scores], kept, size)
    assert after >= retained(scores, kept, size) * (1 - 1e-6)


def test_planted_groups_come_back_together() -> None:
    torch.manual_seed(0)
    owner = torch.arange(64) % 8
    score = 0.05 * torch.rand(64, 80)
    score[torch.arange(64)[:, None], owner[:, None] * 10 + torch.arange(10)] += 1
    order = regroup([score], [10], 8)
    assert len({tuple(sorted(group.tolist())) for group in owner[order].view(8, 8)}) == 8
    assert bool((owner[order].view(8, 8) == owner[order].view(8, 8)[:, :1]).all())


def test_rearranging_keeps_outputs_and_raises_what_is_retained() -> None:
    model, x = net(), images(8)[0]
    wanted = model(x)
    report = rearrange(model, x[:2], kernels(model), 0.5, 8)
    assert report["after"] > report["before"]
    assert report["change"] < 1e-5
    torch.testing.assert_close(model(x), wanted, rtol=1e-5, atol=1e-5)


def test_a_permutation_that_changes_outputs_is_taken_back(monkeypatch: pytest.MonkeyPatch) -> None:
    model, x = net(), images(8)[0]
    before = {name: value.clone() for name, value in model.state_dict().items()}
    whole = kernel_groups.couplings

    def forgetful(model: nn.Module, example: Tensor):
        found = whole(model, example)
        return [type(one)(one.size, tuple(e for e in one.ends if e.role != "in")) for one in found]

    monkeypatch.setattr(kernel_groups, "couplings", forgetful)
    with pytest.raises(UnsupportedError, match="put back"):
        rearrange(model, x[:2], kernels(model), 0.5, 8)
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())


@pytest.mark.parametrize("steps", [0, 12])
@pytest.mark.parametrize("depthwise", [False, True])
def test_pruning_ends_with_exact_zeros_and_packs(steps: int, depthwise: bool) -> None:
    model = net()
    system = SparseByteNN(sparsity=0.5, steps=steps, depthwise=depthwise)
    result = system.run(model, images())
    assert len(result.supports) == len(PAIRS) * (2 if depthwise else 1)
    for layer in system.layers(model):
        support = result.supports[layer.site.name]
        assert torch.equal(layer.site.view(), support.apply(layer.site.view()))
        units = layer.site.shape[1] // layer.places
        assert support.pattern == Pattern((8, layer.places), (8, None))
        assert support.density == pytest.approx((units - round(units / 2)) / units)
    padded = {row["name"]: row["padded_rows"] for row in result.report["sites"]}
    assert padded["pairs.1.pointwise.conv.weight"] == 0  # scaled to a multiple of 8
    json.dumps(result.report, allow_nan=False)
    fold_batchnorm(model)
    x = images(5)[0]
    with torch.no_grad():
        wanted = model(x)
        handle = system.pack(model, RELU6)
        packed = [m for m in model.modules() if isinstance(m, PackedConv2d)]
        assert {(layer.layout, layer.values.shape[2]) for layer in packed} == {
            ("channel_groups", 8)}
        assert len(packed) == len(PAIRS)
        with fallbacks() as seen:
            torch.testing.assert_close(model(x), wanted, rtol=1e-4, atol=1e-4)
        assert not seen
        assert handle is not None
        handle.remove()
        torch.testing.assert_close(model(x), wanted)


def test_kernels_of_three_and_outputs_that_are_no_multiple_of_the_group() -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(3, 16, 3), nn.ReLU(), nn.Conv2d(16, 13, 3, padding=1),
                          nn.ReLU(), nn.Conv2d(13, 21, 1), nn.AdaptiveAvgPool2d(1), nn.Flatten())
    system, x = SparseByteNN(sparsity=0.5, steps=0), torch.randn(4, 3, 9, 9)
    result = system.run(model, (x, torch.zeros(4, dtype=torch.long)))
    assert list(result.supports) == ["2.weight"]  # the others read fewer than 16 channels
    assert result.report["sites"][0]["padded_rows"] == 3
    with torch.no_grad():
        wanted = model(x)
        system.pack(model)
        assert model[2].layout == "channel_groups"
        torch.testing.assert_close(model(x), wanted, rtol=1e-5, atol=1e-5)


def test_a_residual_net_is_rearranged_through_its_additions() -> None:
    torch.manual_seed(0)
    model, x = Residual().eval(), torch.randn(4, 3, 12, 12)
    found = [*kernels(model, depthwise=True)]
    assert [layer.site.name for layer in found] == ["squeeze.weight", "deep.weight"]
    before, wanted = share_retained(found, 0.5, 4), model(x)
    rearrange(model, x, found, 0.5, 4)
    assert share_retained(found, 0.5, 4) > before
    torch.testing.assert_close(model(x), wanted, rtol=1e-5, atol=1e-5)


def test_nothing_pruned_leaves_the_net_dense() -> None:
    model = net()
    SparseByteNN(sparsity=0.1, steps=0).run(model, images(4))
    assert SparseByteNN().pack(model) is None


def test_the_time_model_by_hand() -> None:
    model = GroupTime(1.0, 0.02, 8)
    assert model.seconds(2.0, 0.5) == pytest.approx(2 * (0.5 + 0.0625 + 0.02))
    assert model.even == pytest.approx(0.145 / 1.125)
    assert model.seconds(1.0, model.even) == pytest.approx(1.0)
    measured = [Measured(1.0, 0.0, 1.145 * 1.1), Measured(1.0, 0.5, 0.5825)]
    assert model.error(measured) == pytest.approx(0.0, abs=1e-9)  # the lower of two middles
    assert model.error(measured[:1]) == pytest.approx(1 - 1 / 1.1)
    with pytest.raises(DataError, match="two sparsities"):
        fit(measured[:1], 8)
    with pytest.raises(ConfigError, match="Sparsity"):
        model.seconds(1.0, 1.0)


def test_bad_input_is_one_clear_sentence() -> None:
    assert get_system("sparsebytenn") is SparseByteNN
    with pytest.raises(ConfigError):
        SparseByteNN(sparsity=1.0)
    with pytest.raises(ConfigError):
        SparseByteNN(group=6)  # type: ignore[arg-type]
    with pytest.raises(DataError, match="images"):
        SparseByteNN().run(net(), (torch.zeros(4, 8, 8), torch.zeros(4)))
    with pytest.raises(UnsupportedError, match="at least 16 channels"):
        SparseByteNN().run(nn.Sequential(nn.Conv2d(1, 8, 3)), images())
    with pytest.raises(SupportError, match="same rows"):
        regroup([torch.rand(3, 4), torch.rand(4, 4)], [1, 1], 2)
    with pytest.raises(SupportError, match="budgets"):
        regroup([torch.rand(3, 4)], [5], 2)
