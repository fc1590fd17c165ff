"""The evidence of SparseByteNN fails where a layer is slow, a model is off or an order is lost."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from gossamer.core import DataError
from gossamer.evidence import cifar
from gossamer.evidence.convolutions import group_times
from gossamer.evidence.filters import without_filters
from gossamer.evidence.language import Verdicts
from gossamer.evidence.prune import sparsebytenn as script
from gossamer.measure import operations
from gossamer.models.mobilenet import SMALL, MobileNet
from gossamer.prune.parts.coupling import couplings
from gossamer.prune.parts.kernel_groups import kernels


def times(**changed: float) -> dict[str, dict[str, float]]:
    row = {"dense": 110.0, "dense, matrix product": 100.0, "groups, 0%": 110.0,
           "groups, 30%": 81.0, "groups, 50%": 60.0, "groups, 70%": 40.0,
           "single weights, 30%": 130.0, **{name.replace("_", " "): v
                                            for name, v in changed.items()}}
    return {f"{p} {i}->{o}": row for p, i, o in script.LAYERS + script.OTHERS}


@pytest.mark.parametrize(("changed", "holds"), [
    ({}, True), ({"groups, 30%": 99.0}, False), ({"groups, 50%": 75.0}, False),
    ({"single weights, 30%": 105.0}, False),
])
def test_a_slow_layer_is_noticed(changed: dict[str, float], holds: bool) -> None:
    verdicts = Verdicts()
    script.speed(times(**changed), verdicts)
    assert verdicts.holds == holds


def test_times_off_the_model_are_noticed() -> None:
    good, bad = Verdicts(), Verdicts()
    found = script.predicted(times(), good)
    assert good.holds
    assert found["break-even sparsity"] == pytest.approx(0.11, abs=0.01)  # 0.81 at 0.3, 0.4 at 0.7
    odd = times()
    odd["196 256->256"] = odd["784 256->256"] = {
        **odd["784 256->256"], "groups, 30%": 120.0, "groups, 50%": 90.0, "groups, 70%": 60.0}
    script.predicted(odd, bad)
    assert not bad.holds


def test_group_times_are_measured_for_every_layer() -> None:
    found = group_times(0, ((49, 16, 8),), 8)
    assert list(found) == ["49 16->8"]
    assert all(value > 0 for value in found["49 16->8"].values())


def test_what_orders_retain_lies_between_its_bounds() -> None:
    torch.manual_seed(0)
    net = MobileNet(10, 0.5, SMALL, channels=1, stride=1).eval()
    found = script.retained_by_order(net, torch.randn(2, 1, 16, 16), 0)
    assert 0.5 < found["as trained"] < found["rearranged"] < found["single kernels"] < 1
    assert found["change"] <= 1e-5


def test_filters_are_cut_until_the_work_is_that_much_less() -> None:
    torch.manual_seed(0)
    net = MobileNet(10, 0.5, SMALL, channels=1, stride=1).eval()
    x = torch.randn(1, 1, 16, 16)
    layers = {layer.site.name: layer for layer in kernels(net)}
    without_filters(net, x, list(layers.values()), 0.3)
    gone = {id(end.tensor): int((end.tensor.transpose(0, 1).flatten(1) == 0).all(1).sum())
            for one in couplings(net, x) for end in one.ends if end.role == "in"}
    work = {op.name: op.macs for op in operations(net, inputs=x).ops}
    left, before = 0.0, net.stem.conv.weight
    for pair in net.pairs:
        weight = pair.pointwise.conv.weight
        name = next(n for n, p in net.named_parameters() if p is weight)
        after = next((p.pointwise.conv.weight for p, q in zip(net.pairs[1:], net.pairs)
                      if q is pair), net.classifier.weight)
        kept_in = 1 - gone[id(weight)] / weight.shape[1]
        left += work[name] * kept_in * (1 - gone[id(after)] / weight.shape[0])
    share = left / sum(work[name] for name in layers)
    assert 0.66 <= share <= 0.7
    assert before.shape[0] == 16


def test_the_residual_net_is_the_published_one_and_damaged_images_are_named(tmp_path) -> None:
    net = cifar.ResNet20()
    assert sum(p.numel() for p in net.parameters()) == 269_722
    assert net(torch.zeros(2, 3, 32, 32)).shape == (2, 10)
    assert cifar.folder_of(None) is None
    assert cifar.folder_of(tmp_path) is None
    (tmp_path / "cifar10.npz").write_bytes(b"torn")
    with pytest.raises(DataError, match="test_images"):
        cifar.images(tmp_path, "test")


def test_a_net_that_forgets_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(script, "digits", lambda number: (torch.zeros(1200, 1, 16, 16),
                                                          torch.zeros(1200, dtype=torch.long)))
    monkeypatch.setattr(script, "trained", lambda *rest: nn.Identity())
    monkeypatch.setattr(script, "retained_by_order", lambda *rest: {
        "as trained": 0.6, "random": 0.6, "rearranged": 0.65, "single kernels": 0.8,
        "change": 0.0})
    good = {"dense": 0.97, "dense, trained as much further": 0.98, "30 % of groups": 0.975,
            "30 % of groups, not trained": 0.3, "whole filters, not trained": 0.2}
    for change, holds in (({}, True), ({"30 % of groups": 0.96}, False),
                          ({"whole filters, not trained": 0.4}, False)):
        row = {**good, **change}
        monkeypatch.setattr(script, "accuracies", lambda *rest, row=row: row)
        verdicts = Verdicts()
        script.on_digits(0, "quick", verdicts)
        assert verdicts.holds == holds
