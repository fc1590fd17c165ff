"""Swap: the new module wherever the old one was, and the same old object back."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import Tensor, nn

from gossamer.core import ConfigError, Site, Support, SupportError, UnsupportedError, sites
from gossamer.edit import Project, Swap, apply
from tests.edit.nets import Net


class Wrapped(nn.Module):
    def __init__(self, inner: nn.Module) -> None:
        super().__init__()
        self.inner = inner

    def forward(self, x: Tensor) -> Tensor:
        return 2 * self.inner(x)


def swap(site: Site, module: nn.Module | None = None) -> Swap:
    return Swap(site, module or nn.Linear(site.shape[1], site.shape[0]))


def single(model: nn.Module) -> list[Site]:
    return [site for site in sites(model) if site.index is None]


def test_the_new_module_computes_and_the_same_old_one_returns() -> None:
    model = Net().eval()
    x = torch.randn(4, 8)
    before, down = model(x), model.down
    state = copy.deepcopy(model.state_dict())
    new = nn.Linear(8, 3)
    handle = apply(model, [swap(single(model)[-1], new)])
    assert model.down is new
    assert not new.training
    assert not torch.equal(model(x), before)
    handle.check()
    handle.remove()
    assert model.down is down
    assert torch.equal(model(x), before)
    assert list(model.state_dict()) == list(state)


def test_every_place_of_a_module_is_swapped() -> None:
    layer = nn.Linear(8, 8)
    model = nn.ModuleDict({"list": nn.ModuleList([layer, layer]), "chain": nn.Sequential(layer)})
    handle = apply(model, [swap(Site("list.0.weight", layer, "linear"))])
    found = [model["list"][0], model["list"][1], model["chain"][0]]
    assert len({id(m) for m in found}) == 1
    assert found[0] is not layer
    handle.remove()
    assert model["list"][0] is model["list"][1] is model["chain"][0] is layer


def test_a_wrapper_may_hold_the_old_module() -> None:
    model = nn.Sequential(nn.Linear(8, 3))
    old, x = model[0], torch.randn(2, 8)
    handle = apply(model, [Swap(sites(model)[0], Wrapped(old))])
    assert torch.equal(model(x), 2 * old(x))
    handle.remove()
    assert model[0] is old


def test_conv1d_is_swapped_for_a_linear_of_the_same_sides() -> None:
    conv1d = pytest.importorskip("transformers.pytorch_utils").Conv1D(6, 4)
    model = nn.Sequential(conv1d)
    new = nn.Linear(4, 6)
    new.weight.data, new.bias.data = conv1d.weight.data.t(), conv1d.bias.data
    x = torch.randn(5, 4)
    before = model(x)
    apply(model, [Swap(sites(model)[0], new)])
    assert torch.allclose(model(x), before, atol=1e-6)


def test_bake_forgets_the_old_module() -> None:
    model = Net()
    handle = apply(model, [swap(single(model)[-1])])
    handle.bake()
    assert handle.manifest()["state"] == "baked"
    with pytest.raises(ConfigError, match="baked and cannot be removed"):
        handle.remove()


def test_a_module_replaced_behind_the_handles_back_is_noticed() -> None:
    model = Net()
    handle = apply(model, [swap(single(model)[-1])])
    model.down = nn.Identity()
    with pytest.raises(SupportError, match=r"^down\.weight is no longer part"):
        handle.check()
    layer = nn.Linear(8, 8)
    twice = nn.ModuleList([layer, layer])
    handle = apply(twice, [swap(Site("0.weight", layer, "linear"))])
    twice[1] = nn.Identity()
    with pytest.raises(SupportError, match=r"0\.weight: the swapped module was replaced by Ident"):
        handle.check()


def test_bad_input_is_named_and_changes_nothing() -> None:
    model = Net()
    modules = [id(m) for m in model.modules()]
    expert = next(s for s in sites(model) if s.index is not None)
    site = single(model)[0]
    full = Support.full(*site.shape)
    bad = [
        ([swap(site), swap(expert, nn.Identity())], UnsupportedError, "stacked experts"),
        ([swap(site, nn.Linear(8, 9))], SupportError, "up.weight needs out_features=8"),
        ([swap(site, nn.Linear(9, 8))], SupportError, "up.weight needs in_features=8"),
        ([Swap(site, "relu")], ConfigError, "needs a module"),  # type: ignore[arg-type]
        ([swap(site), swap(site)], ConfigError, "two different edits"),
        ([swap(site), Project(site, full)], ConfigError, "both projected and swapped"),
        ([swap(Site("x.weight", nn.Linear(2, 2), "linear"))], ConfigError, "another model"),
    ]
    for edits, error, message in bad:
        with pytest.raises(error, match=message):
            apply(model, edits)
    assert [id(m) for m in model.modules()] == modules
    layer = nn.Linear(2, 2)
    with pytest.raises(UnsupportedError, match="is the model itself"):
        apply(layer, [swap(sites(layer)[0])])


def test_tied_weights_are_swapped_together_or_not_at_all() -> None:
    model = nn.Sequential(nn.Linear(8, 8), nn.Linear(8, 8))
    model[1].weight = model[0].weight
    first, second = (Site(f"{i}.weight", model[i], "linear") for i in range(2))
    with pytest.raises(UnsupportedError, match=r"0\.weight shares its weight with 1\.weight"):
        apply(model, [swap(first)])
    new = nn.Linear(8, 8)
    handle = apply(model, [swap(first, new), swap(second, new)])
    assert model[0] is model[1] is new
    handle.remove()
    assert model[0].weight is model[1].weight
