"""The evidence of Fast Sparse ConvNets fails where a layer is wrong or slow, or a net is dull."""

from __future__ import annotations

import pytest
import torch

from gossamer.evidence import convolutions
from gossamer.evidence.language import Verdicts
from gossamer.evidence.prune import fast_sparse_convnets as script
from gossamer.models.mobilenet import SMALL, MobileNet
from gossamer.ops import PackedConv2d

QUICK = {"80% pruned, 1 rows": 90.0, "90% pruned, 1 rows": 30.0, "90% pruned, 2 rows": 25.0,
         "90% pruned, 4 rows": 20.0}


def times(monkeypatch: pytest.MonkeyPatch, **changed: float) -> Verdicts:
    row = {"dense": 110.0, "dense, matrix product": 100.0, **QUICK,
           **{f"{name} rows": value for name, value in changed.items()}}
    monkeypatch.setattr(script, "layer_times", lambda seed: {"784 64->64": row, "49 64->128": row})
    verdicts = Verdicts()
    script.times(0, verdicts)
    return verdicts


def test_times_are_held_against_the_fastest_dense_one(monkeypatch: pytest.MonkeyPatch) -> None:
    assert times(monkeypatch).holds


@pytest.mark.parametrize(("name", "value"), [
    ("80% pruned, 1", 101.0), ("90% pruned, 1", 70.0), ("90% pruned, 1", 34.0),
    ("90% pruned, 4", 26.0),
])
def test_a_slow_layer_is_noticed(monkeypatch: pytest.MonkeyPatch, name: str, value: float) -> None:
    assert not times(monkeypatch, **{name: value}).holds


def test_layers_are_exact_and_a_wrong_one_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(convolutions, "SHAPES", ((49, 16, 8), (196, 24, 32)))
    assert convolutions.worst_error(0) < 1e-6
    plain = PackedConv2d.forward
    monkeypatch.setattr(PackedConv2d, "forward", lambda self, x: plain(self, x) * 1.001)
    assert convolutions.worst_error(0) > 1e-5


def test_the_pruned_net_works_as_much_in_its_pointwise_layers() -> None:
    assert script.equal_share() == 0.75
    net = MobileNet(10, script.NARROW, SMALL, channels=1, stride=1)
    pairs = [pair.pointwise.conv.weight.shape[:2] for pair in net.pairs]
    sides = [16, 8, 8, 4, 4]
    assert script.work(script.NARROW)[1] == sum(
        a * b * side**2 for (a, b), side in zip(pairs, sides))


def test_a_net_that_learns_nothing_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    def untrained(width, seed, data, system, sparse):
        torch.manual_seed(seed)
        return MobileNet(10, width, SMALL, channels=1, stride=1)

    monkeypatch.setattr(script, "trained", untrained)
    monkeypatch.setattr(script, "score", lambda model, data: float(
        model.classifier.in_features == 32))
    monkeypatch.setattr(script, "latency", lambda *rest: 1.0)
    verdicts = Verdicts()
    script.accuracy(0, "quick", verdicts)
    assert not verdicts.holds
