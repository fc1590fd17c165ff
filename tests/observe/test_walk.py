"""The walk sees what the model sees: statistics against a plain forward pass with hooks."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from gossamer.core import DataError, Site, UnsupportedError, sites
from gossamer.observe import Outcome, Plan, Visit, walk
from tests.zoo import ZOO, inputs

ALL = ("input_sum", "input_sq", "input_gram", "input")
Found = dict[str, Tensor]


def batches(name: str, count: int = 3) -> list[dict[str, Tensor]]:
    return [inputs(name, 2, seed) for seed in range(count)]


def truth(model: nn.Module, data: list[dict[str, Tensor]]) -> dict[str, Found]:
    """Float64 statistics of every Linear and Conv1D site from ordinary forward passes."""
    found: dict[str, list[Tensor]] = {}
    handles = []
    for site in sites(model):
        if site.kind == "expert":
            continue

        def hook(_: nn.Module, args: Any, kwargs: Any, name: str = site.name) -> None:
            x = args[0] if args else kwargs["input"]
            found.setdefault(name, []).append(x.detach().reshape(-1, x.shape[-1]).double())

        handles.append(site.module.register_forward_pre_hook(hook, with_kwargs=True))
    with torch.no_grad():
        for batch in data:
            model(**batch)
    for handle in handles:
        handle.remove()
    joined = {name: torch.cat(chunks) for name, chunks in found.items()}
    return {name: {"input_sum": x.sum(0), "input_sq": x.square().sum(0), "input_gram": x.t() @ x,
                   "input": x} for name, x in joined.items()}


def collect(model: nn.Module, data: list[dict[str, Tensor]], **plan: Any) -> dict[str, Found]:
    found: dict[str, Found] = {}

    def visit(stop: Visit) -> Outcome:
        for site in stop.sites:
            stats = stop.stats[site.name]
            found[site.name] = {need: stats[need].clone() for need in stats.needs}
        return Outcome()

    walk(model, data, visit, Plan(needs=lambda site: ALL, **plan))
    return found


@pytest.mark.parametrize("sequential", [False, True])
@pytest.mark.parametrize("name", sorted(ZOO))
def test_statistics_are_those_of_a_plain_forward_pass(name: str, sequential: bool) -> None:
    model, data = ZOO[name](), batches(name)
    before = {key: value.clone() for key, value in model.state_dict().items()}
    found, expected = collect(model, data, sequential=sequential), truth(model, data)
    assert found.keys() == {site.name for site in sites(model)}
    for site_name, values in expected.items():
        for need, value in values.items():
            mine = found[site_name][need].double()
            assert float((mine - value).norm()) <= 1e-5 * float(value.norm()) + 1e-9, need
    assert all(torch.equal(before[key], value) for key, value in model.state_dict().items())
    assert not any(m._forward_pre_hooks or m._forward_hooks for m in model.modules())
    assert not any("forward" in vars(m) for m in model.modules())


def test_experts_see_the_tokens_routed_to_them() -> None:
    model, data = ZOO["mixtral"](), batches("mixtral")
    found = collect(model, data)
    experts = next(m for m in model.modules() if type(m).__name__.endswith("Experts"))
    seen: list[Tensor] = []

    def hook(_: nn.Module, args: Any, kwargs: Any) -> None:
        hidden, chosen = args[0], args[1]
        seen.append(hidden.reshape(-1, hidden.shape[-1])[(chosen == 1).any(-1)].double())

    handle = experts.register_forward_pre_hook(hook, with_kwargs=True)
    with torch.no_grad():
        for batch in data:
            model(**batch)
    handle.remove()
    x = torch.cat(seen)
    first = next(n for n in found if n.endswith("[1]"))
    torch.testing.assert_close(found[first]["input_gram"].double(), x.t() @ x, rtol=1e-5, atol=1e-6)


def test_later_blocks_see_the_edits_of_earlier_ones() -> None:
    model, data = ZOO["llama"](), batches("llama")
    found: dict[str, Tensor] = {}

    def visit(stop: Visit) -> Outcome:
        for site in stop.sites:
            found[site.name] = stop.stats[site.name]["input_sq"].clone()
            if stop.index == 0:
                site.write(torch.zeros(site.shape))
        return Outcome()

    walk(model, data, visit, Plan(needs=lambda site: ("input_sq",)))
    expected = truth(model, data)  # the model now holds the edited first block
    last = [n for n in found if "layers.2" in n]
    for name in last:
        torch.testing.assert_close(found[name], expected[name]["input_sq"], rtol=1e-5, atol=1e-8)


def test_sequential_groups_see_the_edits_of_groups_before_them() -> None:
    model, data = ZOO["llama"](), batches("llama")
    order: list[list[str]] = []

    def visit(stop: Visit) -> Outcome:
        order.append([site.name.split(".")[-2] for site in stop.sites])
        if "gate_proj" in order[-1] and stop.index == 0:
            for site in stop.sites:
                site.write(torch.zeros(site.shape))
        if "down_proj" in order[-1] and stop.index == 0:
            assert float(stop.stats[stop.sites[0].name]["input_sq"].sum()) == 0
        return Outcome()

    walk(model, data, visit, Plan(needs=lambda site: ("input_sq",), sequential=True))
    assert order[:4] == [["q_proj", "k_proj", "v_proj"], ["o_proj"], ["gate_proj", "up_proj"],
                         ["down_proj"]]


def test_a_model_without_repeated_blocks_is_one_block() -> None:
    model = nn.Sequential(nn.Linear(8, 16), nn.ReLU(), nn.Linear(16, 4))
    data = [{"input": torch.randn(5, 8)} for _ in range(2)]
    found, expected = collect(model, data), truth(model, data)
    for name, values in expected.items():
        torch.testing.assert_close(found[name]["input_gram"].double(), values["input_gram"],
                                   rtol=1e-5, atol=1e-5)


def test_layers_fed_by_one_tensor_share_their_statistics() -> None:
    model, data = ZOO["llama"](), batches("llama")
    shared: list[bool] = []

    def visit(stop: Visit) -> Outcome:
        by_name = {site.name.split(".")[-2]: stop.stats[site.name] for site in stop.sites}
        shared.append(by_name["q_proj"] is by_name["v_proj"])
        shared.append(by_name["q_proj"] is not by_name["o_proj"])
        return Outcome()

    walk(model, data, visit, Plan(needs=lambda site: ("input_gram",)))
    assert shared
    assert all(shared)


def test_match_leaves_other_sites_alone() -> None:
    model, data = ZOO["llama"](), batches("llama")
    assert all("mlp" in name for name in collect(model, data, match="*mlp*"))


def nothing(stop: Visit) -> Outcome:
    return Outcome()


def test_no_data_is_refused_where_statistics_are_needed() -> None:
    with pytest.raises(DataError, match="no calibration data"):
        walk(ZOO["llama"](), [], nothing, Plan(needs=lambda site: ("input_sq",)))


def test_a_nan_activation_names_the_site() -> None:
    model = ZOO["llama"]()
    with torch.no_grad():
        sites(model)[7].module.weight[0, 0] = float("nan")
    with pytest.raises(DataError, match=r"layers\.1\.self_attn\.o_proj.*NaN"):
        walk(model, batches("llama"), nothing, Plan(needs=lambda site: ("input_sq",)))


def test_a_model_that_skips_blocks_is_refused() -> None:
    class Skips(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layers = nn.ModuleList(nn.Linear(4, 4) for _ in range(3))

        def forward(self, x: Tensor) -> Tensor:
            return self.layers[0](x)

    with pytest.raises(UnsupportedError, match="called 1 of its 3 blocks"):
        walk(Skips(), [{"x": torch.randn(2, 4)}], nothing, Plan(needs=lambda site: ()))


def test_unknown_statistics_are_refused_with_the_nearest_name() -> None:
    def needs(site: Site) -> tuple[str, ...]:
        return ("input_gramm",)

    with pytest.raises(Exception, match="did you mean 'input_gram'"):
        walk(ZOO["llama"](), batches("llama"), nothing, Plan(needs=needs))
