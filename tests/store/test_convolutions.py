"""Convolutional nets: found, pruned, swapped, saved packed and loaded without a dense copy."""

from __future__ import annotations

import copy
from pathlib import Path

import pytest
import torch
from torch import nn

from gossamer import store
from gossamer.core import StoreError, SupportError, UnsupportedError, sites
from gossamer.edit import Swap, apply
from gossamer.layout import unpack
from gossamer.ops import PackedConv2d
from gossamer.ops.conv import RELU, fallbacks
from gossamer.prune import Magnitude, SparseGPT, Wanda


def net() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(3, 8, 3, stride=2, padding=1), nn.ReLU(),
        nn.Conv2d(8, 8, 3, padding=1, groups=8), nn.Conv2d(8, 16, 1), nn.ReLU(),
        nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(16, 10),
    ).eval()


X = torch.randn(2, 3, 9, 9, generator=torch.Generator().manual_seed(1))


def test_sites_are_the_plain_convolutions_and_the_linear_layers() -> None:
    model = net()
    found = sites(model)
    assert [(s.name, s.kind, s.shape) for s in found] == [
        ("0.weight", "conv2d", (8, 27)), ("3.weight", "conv2d", (16, 8)),
        ("7.weight", "linear", (10, 16)),
    ]
    weight = torch.randn(8, 27)
    found[0].write(weight)
    assert torch.equal(model[0].weight, weight.view(8, 3, 3, 3))
    assert found[0].view().data_ptr() == model[0].weight.data_ptr()


def test_convolutions_of_models_with_blocks_are_left_alone() -> None:
    model = nn.ModuleDict({"patches": nn.Conv2d(3, 8, 4),
                           "blocks": nn.ModuleList([nn.Linear(8, 8) for _ in range(3)])})
    assert [s.name for s in sites(model)] == [f"blocks.{i}.weight" for i in range(3)]


def test_channels_last_weights_are_refused_by_name() -> None:
    model = net().to(memory_format=torch.channels_last)
    with pytest.raises(UnsupportedError, match=r"0\.weight is stored with its channels last"):
        sites(model)


def test_magnitude_prunes_convolutions_and_the_zeros_hold() -> None:
    model = net()
    result = Magnitude(density=0.25).run(model)
    for site in sites(model):
        assert torch.equal(site.view(), result.supports[site.name].apply(site.view()))
        assert abs(result.supports[site.name].density - 0.25) < 0.02
    optimizer = torch.optim.SGD(model.parameters(), 0.1, momentum=0.9)
    handle = result.project(optimizer)
    for _ in range(2):
        model(X).square().sum().backward()
        optimizer.step()
    handle.check()
    handle.bake()
    assert not any(name.endswith("_pruned") for name, _ in model.named_buffers())


@pytest.mark.parametrize("system", [Wanda(density=0.5), SparseGPT(density=0.5),
                                    Magnitude(density=0.5, allocation="global")])
def test_systems_that_need_inputs_refuse_convolutions(system: Wanda) -> None:
    with pytest.raises(UnsupportedError, match=r"0\.weight is a convolution"):
        system.run(net(), [{"input": X}])


def test_swapping_and_taking_it_back() -> None:
    model, site = net(), sites(net())[0]
    site = sites(model)[0]
    wanted = model(X)
    before = copy.deepcopy(model.state_dict())
    handle = apply(model, [Swap(site, PackedConv2d.from_conv(model[0], layout="bitmask",
                                                             bounds=RELU))])
    torch.testing.assert_close(model(X), wanted, rtol=1e-4, atol=1e-5)
    handle.remove()
    assert all(torch.equal(before[name], now) for name, now in model.state_dict().items())
    with pytest.raises(SupportError, match=r"packs a weight of \(16, 8\)"):
        apply(model, [Swap(site, PackedConv2d.from_conv(model[3]))])


@pytest.mark.parametrize("layout", ["csr", "bitmask", "auto"])
def test_a_saved_net_loads_packed_and_computes_the_same(layout: str, tmp_path: Path) -> None:
    model = net()
    Magnitude(density=0.2).run(model)
    with torch.no_grad():
        model[3].weight.zero_()
    store.save(model, tmp_path / "net", layout=layout)
    loaded = store.load(tmp_path / "net", into=net())
    assert isinstance(loaded[0], PackedConv2d)
    assert isinstance(loaded[3], PackedConv2d)
    assert isinstance(loaded[2], nn.Conv2d)
    assert not any("weight" in name for name in loaded[0].state_dict())
    assert torch.equal(unpack(loaded[0].packed), model[0].weight.flatten(1))
    with fallbacks() as seen:
        torch.testing.assert_close(loaded(X), model(X), rtol=1e-4, atol=1e-5)
    assert not seen
    rows = {row.name: row for row in store.inspect(tmp_path / "net").sites}
    assert rows["0.weight"].kind == "conv2d"
    assert "packed" in rows["0.weight"].runs
    assert rows["0.weight"].shape == (8, 27)
    store.save(loaded, tmp_path / "again", layout=layout)
    again = store.load(tmp_path / "again", into=net())
    assert torch.equal(again(X), loaded(X))
    store.pack(tmp_path / "net", tmp_path / "dense", layout="dense")
    plain = store.load(tmp_path / "dense", into=net())
    assert isinstance(plain[0], nn.Conv2d)
    assert torch.equal(plain[0].weight, model[0].weight)


def test_a_folder_of_another_net_is_refused(tmp_path: Path) -> None:
    model = net()
    Magnitude(density=0.2).run(model)
    store.save(model, tmp_path / "net", layout="csr")
    other = net()
    other[0] = nn.Conv2d(3, 8, 5, stride=2, padding=2)
    with pytest.raises(StoreError, match="does not fit"):
        store.load(tmp_path / "net", into=other)
