"""Laws of every edit: apply then remove leaves the state dict bit-equal and no hook behind."""

from __future__ import annotations

import json

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from gossamer.core import Support, sites
from gossamer.edit import Project, Swap, apply
from tests.edit.nets import Net, hook_count, train
from tests.zoo import ZOO, inputs

BITS = {torch.float32: torch.int32, torch.bfloat16: torch.int16}


def bits(model: nn.Module) -> dict[str, Tensor]:
    """The state dict as integers, so that -0.0 and every NaN count."""
    return {
        name: value.clone().view(BITS.get(value.dtype, value.dtype))
        for name, value in model.state_dict().items()
    }


def same(before: dict[str, Tensor], after: dict[str, Tensor]) -> bool:
    return list(before) == list(after) and all(torch.equal(before[n], after[n]) for n in before)


def random_projects(model: nn.Module, seed: int) -> list[Project]:
    generator = torch.Generator().manual_seed(seed)
    return [
        Project(site, Support.of(torch.rand(site.shape, generator=generator) < 0.5))
        for site in sites(model)
    ]


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 10**6), st.sampled_from(sorted(BITS, key=str)), st.booleans())
def test_projects_leave_no_trace(seed: int, dtype: torch.dtype, awkward: bool) -> None:
    torch.manual_seed(seed)
    model = Net().to(dtype)
    if awkward:
        model.up.weight.data[0] = torch.tensor([-0.0, torch.nan, torch.inf, 1e-40] * 2)
    before = bits(model)
    optimizer = torch.optim.AdamW(model.parameters())
    handle = apply(model, random_projects(model, seed), optimizer=optimizer, remember=True)
    handle.remove()
    assert same(before, bits(model))
    assert hook_count(model) == 0
    assert not list(model.named_buffers())
    assert not optimizer._optimizer_step_pre_hooks
    assert not optimizer._optimizer_step_post_hooks


@pytest.mark.parametrize("name", ZOO)
def test_every_architecture_returns_bit_by_bit(name: str) -> None:
    pytest.importorskip("transformers")
    model = ZOO[name]()
    before, x = bits(model), inputs(name)
    buffers = {n for n, _ in model.named_buffers()}
    with torch.no_grad():
        said = model(**x)[0]
    handle = apply(model, random_projects(model, 0), remember=True)
    handle.check()
    assert list(model.state_dict()) == list(before)
    with torch.no_grad():
        assert not torch.equal(model(**x)[0], said)
    handle.remove()
    assert same(before, bits(model))
    assert {n for n, _ in model.named_buffers()} == buffers
    assert hook_count(model) == hook_count(ZOO[name]())
    with torch.no_grad():
        assert torch.equal(model(**x)[0], said)


def test_swaps_leave_no_trace() -> None:
    model = Net()
    before = bits(model)
    modules = list(model.named_modules())
    edits = [
        Swap(site, nn.Sequential(nn.Linear(site.shape[1], site.shape[0])))
        for site in sites(model) if site.index is None
    ]
    handle = apply(model, edits)
    assert not same(before, bits(model))
    handle.remove()
    assert same(before, bits(model))
    assert list(model.named_modules()) == modules
    assert hook_count(model) == 0


def test_only_what_was_removed_returns_after_training() -> None:
    model = Net()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    old = {site.name: site.view().clone() for site in sites(model)}
    edits = random_projects(model, 1)
    handle = apply(model, edits, optimizer=optimizer, remember=True)
    train(model, optimizer, 3)
    trained = {edit.site.name: edit.site.view().clone() for edit in edits}
    handle.remove()
    for edit in edits:
        kept, name = edit.support.mask(), edit.site.name
        assert torch.equal(edit.site.view(), torch.where(kept, trained[name], old[name]))


def test_baked_zeros_are_an_ordinary_model() -> None:
    model = Net()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    edits = random_projects(model, 2)
    handle = apply(model, edits, optimizer=optimizer)
    before = bits(model)
    handle.bake()
    handle.bake()
    assert same(before, bits(model))
    assert hook_count(model) == 0
    assert not list(model.named_buffers())
    assert not optimizer._optimizer_step_post_hooks


def test_manifests_are_json() -> None:
    model = Net()
    edits: list[Project | Swap] = list(random_projects(model, 3)[1:])
    edits.append(Swap(sites(model)[0], nn.Identity()))
    handle = apply(model, edits)
    manifest = json.loads(json.dumps(handle.manifest()))
    assert manifest["state"] == "applied"
    assert [row["site"] for row in manifest["edits"]] == [edit.site.name for edit in edits]
    assert manifest["edits"][-1] == {
        "edit": "swap", "site": "up.weight", "was": "Linear", "now": "Identity",
    }
    first = edits[0]
    assert isinstance(first, Project)
    assert manifest["edits"][0]["kept"] == first.support.nnz
    handle.remove()
    assert handle.manifest()["state"] == "removed"
