"""One model in every format: equal to its masked form, trained on its support alone, copied."""

from __future__ import annotations

import copy
import io
from pathlib import Path

import pytest
import torch
from torch import nn

import gossamer
from gossamer import store
from gossamer.core import ConfigError, DataError, UnsupportedError, group_nm, nm, select, sites
from gossamer.edit import Project, apply
from gossamer.layout import Packed, unpack
from gossamer.ops import PackedLinear
from gossamer.prune import Magnitude, STen
from tests.zoo import ZOO, inputs

SYSTEMS = {
    "csr": Magnitude(density=0.5), "nm": Magnitude(pattern="2:4"),
    "group_nm": STen(pattern="2:4:2"), "bitmask": Magnitude(density=0.5),
    "condensed": Magnitude(density=0.5, pattern="rows"),
}


@pytest.mark.parametrize("layout", SYSTEMS)
def test_an_encoder_computes_what_its_masked_form_does(layout: str, tmp_path: Path) -> None:
    pytest.importorskip("transformers")
    model, x = ZOO["bert"](), inputs("bert")
    supports = SYSTEMS[layout].run(model).supports
    with torch.inference_mode():
        wanted = model(**x)[0]
        gossamer.pack(model, layout, supports=supports).bake()
        found = model(**x)[0]
        torch.testing.assert_close(found, wanted, atol=1e-4, rtol=0)
        assert {m.layout for m in model.modules() if isinstance(m, PackedLinear)} == {layout}
        assert torch.equal(copy.deepcopy(model)(**x)[0], found)
        store.save(model, tmp_path / "model", layout=layout)
        assert torch.equal(store.load(tmp_path / "model")(**x)[0], found)


def net() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(16, 24), nn.Tanh(), nn.Linear(24, 24))


def step(model: nn.Module, optimizer: torch.optim.Optimizer, seed: int) -> None:
    x = torch.randn(32, 16, generator=torch.Generator().manual_seed(seed))
    optimizer.zero_grad()
    model(x).square().mean().backward()
    optimizer.step()


def projected(pattern: str) -> tuple[nn.Module, torch.optim.Optimizer, list[Project]]:
    model = net()
    chosen = group_nm(2, 4, 4) if pattern == "2:4:4" else nm(2, 4)
    edits = [Project(site, select(site.view().abs(), chosen)) for site in sites(model)]
    optimizer = torch.optim.Adam(model.parameters(), 1e-2)
    apply(model, edits, optimizer)
    return model, optimizer, edits


@pytest.mark.parametrize("pattern", ["2:4", "2:4:4"])
def test_a_masked_model_resumes_from_its_states_bit_by_bit(pattern: str) -> None:
    model, optimizer, edits = projected(pattern)
    step(model, optimizer, 1)
    stream = io.BytesIO()
    torch.save((model.state_dict(), optimizer.state_dict()), stream)
    stream.seek(0)
    again, second, _ = projected(pattern)
    states = torch.load(stream, weights_only=True)
    again.load_state_dict(states[0])
    second.load_state_dict(states[1])
    for seed in (2, 3):
        step(model, optimizer, seed)
        step(again, second, seed)
    for site, other, edit in zip(sites(model), sites(again), edits):
        assert torch.equal(site.view(), other.view())
        assert torch.equal(site.view() != 0, edit.support.mask())


@pytest.mark.parametrize(("layout", "pattern"), [("csr", "2:4"), ("nm", "2:4"),
                                                 ("bitmask", "2:4"), ("group_nm", "2:4:4")])
def test_packed_values_take_the_steps_of_the_masked_model(layout: str, pattern: str) -> None:
    masked, optimizer, edits = projected(pattern)
    model = net()
    gossamer.pack(model, layout, supports={e.site.name: e.support for e in edits}).bake()
    layers = [module for module in model.modules() if isinstance(module, PackedLinear)]
    trained = [tensor for layer in layers for tensor in (layer.values, layer.bias)]
    for tensor in trained:
        tensor.requires_grad_()
    second = torch.optim.Adam(trained, 1e-2)
    for seed in (1, 2):
        step(masked, optimizer, seed)
        step(model, second, seed)
    third = torch.optim.Adam(trained, 1e-2)
    third.load_state_dict(copy.deepcopy(second.state_dict()))
    step(masked, optimizer, 3)
    step(model, third, 3)
    for layer, site, edit in zip(layers, sites(masked), edits):
        parts = {name: part.detach() for name, part in layer.packed.parts.items()}
        weight = unpack(Packed(layout, layer.packed.shape, parts))
        torch.testing.assert_close(weight, site.view(), atol=1e-5, rtol=1e-4)
        assert not bool(weight[~edit.support.mask()].any())


def test_wrong_names_and_scores_are_refused_with_what_is_near() -> None:
    with pytest.raises(UnsupportedError, match=r"matches '0\.wieght': of its 2, try 0\.weight"):
        STen(pattern="2:4:4", match="0.wieght").run(net())
    model = net()
    supports = {"0.wieght": select(sites(model)[0].view().abs(), nm(2, 4))}
    with pytest.raises(ConfigError, match=r"did you mean '0\.weight'"):
        gossamer.pack(model, "nm", supports=supports)
    for pattern in (nm(2, 4), group_nm(2, 4, 2)):
        with pytest.raises(DataError, match="complex64 have no order"):
            select(torch.randn(24, 8, dtype=torch.complex64), pattern)
