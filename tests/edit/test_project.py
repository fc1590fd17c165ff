"""Project: exact zeros that survive training, a plain parameter, an honest inverse."""

from __future__ import annotations

import copy
import io

import pytest
import torch
from torch import nn

from gossamer.core import (
    ConfigError,
    Site,
    Support,
    SupportError,
    UnsupportedError,
    sites,
)
from gossamer.edit import Project, apply, release
from tests.edit.nets import Net, all_projects, hook_count, projects, train


def pruned(edit: Project) -> torch.Tensor:
    return ~edit.support.mask()


def test_outside_is_zero_inside_is_untouched() -> None:
    model = Net()
    before = {site.name: site.view().clone() for site in sites(model)}
    edits = all_projects(model)
    apply(model, edits).check()
    for edit in edits:
        after = edit.site.view()
        assert torch.equal(after, edit.support.apply(before[edit.site.name]))
        assert int((after != 0).sum()) == edit.support.nnz
    kinds = {edit.site.kind for edit in edits}
    assert kinds >= {"linear", "expert"}


def test_parameters_keep_their_names_and_a_plain_model_loads_them() -> None:
    model, plain = Net(), Net()
    keys, parameters = list(model.state_dict()), [id(p) for p in model.parameters()]
    handle = apply(model, all_projects(model))
    assert list(model.state_dict()) == keys
    assert [id(p) for p in model.parameters()] == parameters
    plain.load_state_dict(model.state_dict())
    x = torch.randn(4, 8)
    assert torch.equal(plain(x), model(x))
    handle.bake()
    assert not [name for name, _ in model.named_buffers() if name.endswith("_pruned")]


@pytest.mark.parametrize("make", [
    lambda p: torch.optim.AdamW(p, lr=0.05, weight_decay=0.1),
    lambda p: torch.optim.SGD(p, lr=0.05, momentum=0.9, weight_decay=0.01, nesterov=True),
    lambda p: torch.optim.Adam(p, lr=0.05, amsgrad=True, foreach=False),
], ids=["adamw", "sgd", "adam"])
def test_zeros_survive_training_that_began_dense(make: object) -> None:
    model = Net()
    optimizer = make(model.parameters())  # type: ignore[operator]
    train(model, optimizer, 5)  # momentum of weights that are about to go
    handle = apply(model, all_projects(model, 0.3), optimizer=optimizer)
    moved = model.up.weight.detach().clone()
    for _ in range(50):
        train(model, optimizer)
        handle.check()
    assert not torch.equal(model.up.weight, moved)
    handle.remove()
    train(model, optimizer)  # nobody holds the zeros any more
    assert int((model.up.weight != 0).sum()) > handle.manifest()["edits"][0]["kept"]


def test_gradients_are_dense_until_the_step_and_masked_in_it() -> None:
    model = Net()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    edits = all_projects(model, 0.25)
    apply(model, edits, optimizer=optimizer)
    model(torch.randn(16, 8)).square().sum().backward()
    outside = pruned(edits[0])
    weight = edits[0].site.module.weight
    assert float(weight.grad[outside].abs().sum()) > 0  # type: ignore[union-attr, index]
    optimizer.step()
    assert float(weight.grad[outside].abs().sum()) == 0  # type: ignore[union-attr, index]


def test_one_pair_of_hooks_however_many_sites() -> None:
    model = Net()
    optimizer = torch.optim.AdamW(model.parameters())
    handle = apply(model, all_projects(model), optimizer=optimizer)
    hooks = (optimizer._optimizer_step_pre_hooks, optimizer._optimizer_step_post_hooks)
    assert [len(table) for table in hooks] == [1, 1]
    assert hook_count(model) == 0
    handle.remove()
    assert [len(table) for table in hooks] == [0, 0]


def test_nan_gradients_and_nan_weights_outside_do_no_harm() -> None:
    model = nn.Sequential(nn.Linear(8, 3, bias=False))
    (edit,) = all_projects(model)
    model[0].weight.data[pruned(edit)] = torch.nan
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
    handle = apply(model, [edit], optimizer=optimizer)
    model(torch.randn(2, 8)).sum().backward()
    model[0].weight.grad[pruned(edit)] = torch.nan
    optimizer.step()
    handle.check()
    assert bool(torch.isfinite(model[0].weight).all())


def test_a_merged_adapter_is_noticed() -> None:
    model = Net()
    handle = apply(model, all_projects(model))
    handle.check()
    with torch.no_grad():
        model.down.weight += torch.randn(3, 2) @ torch.randn(2, 8)
    with pytest.raises(SupportError, match=r"^down\.weight: 12 pruned weights are no longer zero"):
        handle.check()
    with pytest.raises(SupportError, match=r"^down\.weight"):
        handle.bake()


def test_a_loaded_dense_state_is_noticed_by_expert() -> None:
    model, dense = Net(), Net()
    handle = apply(model, all_projects(model))
    with torch.no_grad():
        model.experts.down_proj[1].copy_(dense.experts.down_proj[1])
    with pytest.raises(SupportError, match=r"experts\.down_proj\[1\]: \d+ pruned"):
        handle.check()


def test_a_layer_that_left_the_model_is_noticed() -> None:
    model = Net()
    handle = apply(model, all_projects(model))
    model.down = nn.Linear(8, 3)
    with pytest.raises(SupportError, match=r"^down\.weight is no longer part of the model"):
        handle.check()


def test_masks_follow_device_and_dtype_moves() -> None:
    model = Net()
    handle = apply(model, all_projects(model), remember=True)
    model.to(torch.bfloat16)
    assert model.up.weight_pruned.dtype == torch.bool
    assert model.up.weight.dtype == torch.bfloat16
    handle.check()
    model.to("meta")
    assert model.up.weight_pruned.is_meta


def test_deepcopy_trains_on_its_own() -> None:
    model = Net()
    optimizer = torch.optim.AdamW(model.parameters())
    edits = all_projects(model)
    handle = apply(model, edits, optimizer=optimizer)
    train(model, optimizer)  # torch's own pruning cannot be copied after a backward pass
    twin = copy.deepcopy(model)
    kept = twin.up.weight.detach().clone()
    train(model, optimizer)
    handle.check()
    assert torch.equal(twin.up.weight, kept)
    again = all_projects(twin)
    with pytest.raises(ConfigError, match=r"already carries a mask.*edit\.release"):
        apply(twin, again)
    release(twin)
    other = torch.optim.AdamW(twin.parameters())
    own = apply(twin, again, optimizer=other)
    train(twin, other, 3)
    own.check()
    handle.check()


def test_pickling_and_checkpoints_work_in_the_middle() -> None:
    model = Net()
    optimizer = torch.optim.AdamW(model.parameters())
    handle = apply(model, all_projects(model), optimizer=optimizer)
    train(model, optimizer, 2)
    file = io.BytesIO()
    torch.save({"model": model.state_dict(), "optimizer": optimizer.state_dict()}, file)
    file.seek(0)
    saved = torch.load(file)
    train(model, optimizer, 2)
    model.load_state_dict(saved["model"])
    optimizer.load_state_dict(saved["optimizer"])
    train(model, optimizer, 2)
    handle.check()


def test_compiled_models_see_the_edit_and_the_training() -> None:
    model = nn.Sequential(nn.Linear(8, 8), nn.ReLU(), nn.Linear(8, 3))
    compiled = torch.compile(model, backend="aot_eager", fullgraph=True)
    x = torch.randn(32, 8)
    compiled(x)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
    handle = apply(model, all_projects(model), optimizer=optimizer)
    assert torch.allclose(compiled(x), model(x))
    train(compiled, optimizer, 3)
    handle.check()
    assert torch.allclose(compiled(x), model(x))


def test_tied_weights_are_edited_once() -> None:
    model = nn.Sequential(nn.Linear(8, 8), nn.ReLU(), nn.Linear(8, 8))
    model[2].weight = model[0].weight
    (edit,) = all_projects(model)
    twin = Project(Site("2.weight", model[2], "linear"), edit.support)
    handle = apply(model, [edit, twin], remember=True)
    assert len(handle.manifest()["edits"]) == 1
    assert torch.equal(model[2].weight, edit.support.apply(model[0].weight))
    handle.remove()
    other = Project(twin.site, Support.full(8, 8))
    with pytest.raises(ConfigError, match=r"2\.weight and 0\.weight are one weight"):
        apply(model, [edit, other])


def test_experts_can_be_edited_by_different_handles() -> None:
    model = Net()
    first, second, *_ = (s for s in sites(model) if s.name.startswith("experts.down_proj"))
    before = model.experts.down_proj.detach().clone()
    one = apply(model, projects([first]), remember=True)
    two = apply(model, projects([second]), remember=True)
    one.remove()
    two.check()
    assert torch.equal(model.experts.down_proj[0], before[0])
    assert not torch.equal(model.experts.down_proj[1], before[1])
    two.remove()
    assert torch.equal(model.experts.down_proj, before)
    assert not [name for name, _ in model.named_buffers()]


def test_without_memory_the_zeros_stay_and_are_let_go() -> None:
    model = Net()
    edits = all_projects(model)
    handle = apply(model, edits)
    zeros = [edit.site.view().clone() for edit in edits]
    handle.remove()
    assert all(torch.equal(edit.site.view(), z) for edit, z in zip(edits, zeros))
    assert not list(model.named_buffers())


def test_bad_input_changes_nothing() -> None:
    model, other = Net(), Net()
    state = copy.deepcopy(model.state_dict())
    edits = all_projects(model)
    narrow = Project(edits[-1].site, Support.full(2, 2))
    with pytest.raises(SupportError, match=r"has shape .* its support \(2, 2\)"):
        apply(model, [*edits[:-1], narrow])
    with pytest.raises(ConfigError, match="is a site of another model"):
        apply(other, edits)
    with pytest.raises(ConfigError, match="trains none of the projected weights"):
        apply(model, edits, optimizer=torch.optim.SGD(other.parameters()))
    with pytest.raises(UnsupportedError, match="dict has no step hooks"):
        apply(model, edits, optimizer={})
    with pytest.raises(ConfigError, match="at least one edit"):
        apply(model, [])
    with pytest.raises(ConfigError, match="An edit is a Project or a Swap, not str"):
        apply(model, ["prune"])  # type: ignore[list-item]
    assert all(torch.equal(value, state[name]) for name, value in model.state_dict().items())
    assert not list(model.named_buffers())
    empty = Net().to("meta")
    site = sites(empty)[0]
    with pytest.raises(UnsupportedError, match=r"^up\.weight lies on the meta device"):
        apply(empty, [Project(site, Support.full(*site.shape))])


def test_sharded_weights_are_refused_by_name() -> None:
    model = nn.Sequential(nn.Linear(8, 8))
    (edit,) = all_projects(model)
    model[0].weight.placements = ()  # what torch's DTensor has and no other tensor
    with pytest.raises(UnsupportedError, match=r"^0\.weight is a DTensor"):
        apply(model, [edit])
