"""Joined layers give what the layers give, in any order of calls, eager and compiled."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import nn

from gossamer.core import ConfigError, Keep, SupportError, rows, select, sites
from gossamer.edit import apply, join, readers
from gossamer.edit.join import Joined
from gossamer.ops.linear import PackedLinear
from tests.zoo import ZOO, inputs

# Groups a block, by the architectures' own definitions; fused matrices have nobody to join.
GROUPS = {
    "llama": [3, 2], "mistral": [3, 2], "qwen2": [3, 2], "qwen3": [3, 2], "gemma": [3, 2],
    "opt": [3], "gpt2": [], "gpt_neox": [], "phi": [4], "falcon": [2], "bloom": [],
    "mixtral": [3], "qwen3_moe": [3], "bert": [3], "vit": [3],
}


@pytest.mark.parametrize("name", list(ZOO))
def test_joined_models_compute_what_the_pruned_ones_do(name: str) -> None:
    model, batch = ZOO[name](), inputs(name)
    for site in sites(model):
        site.write(select(site.view().abs(), rows(), Keep.fraction(0.5)).apply(site.view()))
    with torch.inference_mode():
        wanted = model(**batch).logits
    groups = readers(sites(model), lambda: model(**batch))
    assert [len(group) for group in groups] == GROUPS[name] * (3 if name == "llama" else 2)
    if not groups:
        return
    before = {key: value.clone() for key, value in model.state_dict().items()}
    handle = apply(model, [swap for group in groups for swap in join(group, layout="bitmask")])
    with torch.inference_mode():
        torch.testing.assert_close(model(**batch).logits, wanted, rtol=1e-4, atol=1e-5)
        copied = copy.deepcopy(model)
        torch.testing.assert_close(copied(**batch).logits, wanted, rtol=1e-4, atol=1e-5)
    handle.remove()
    after = model.state_dict()
    assert before.keys() == after.keys()
    assert all(torch.equal(before[key], after[key]) for key in before)
    assert not any(module._forward_pre_hooks for module in model.modules())


class Three(nn.Module):
    """Three readers of one input, called in an order of choice."""

    def __init__(self, order: str = "abc", width: int = 6) -> None:
        super().__init__()
        self.a, self.b = nn.Linear(8, 4), nn.Linear(8, 5, bias=False)
        self.c = nn.Linear(8, width)
        self.order = order

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        made = {name: getattr(self, name)(x) for name in self.order}
        return torch.cat([made[name] for name in sorted(made)], -1)


@pytest.mark.parametrize("order", ["abc", "cba", "bac", "cab"])
def test_any_order_of_calls_is_right(order: str) -> None:
    model, x = Three(order), torch.randn(2, 3, 8)
    wanted = [model(x), model(2 * x)]
    apply(model, join(sites(model), layout="dense"))
    for factor, output in zip((1, 2), wanted):
        torch.testing.assert_close(model(factor * x), output)


def test_one_product_a_call_and_nothing_kept_after_it(monkeypatch: pytest.MonkeyPatch) -> None:
    model, x = Three(), torch.randn(2, 8)
    apply(model, join(sites(model)))
    count = 0
    plain = PackedLinear.forward

    def counted(self: PackedLinear, x: torch.Tensor) -> torch.Tensor:
        nonlocal count
        count += 1
        return plain(self, x)

    monkeypatch.setattr(PackedLinear, "forward", counted)
    model(x)
    assert count == 1
    joined = next(m for m in model.modules() if isinstance(m, Joined))
    assert joined._input is None
    assert joined._outputs == ()
    model(x)
    assert count == 2


def test_supports_and_dtype_are_those_asked_for() -> None:
    model = Three()
    chosen = [select(s.view().abs(), rows(), Keep.fraction(0.5)) for s in sites(model)]
    swap = join(sites(model), chosen, layout="bitmask", dtype=torch.bfloat16)[0]
    packed = swap.module.joined.product.packed
    assert packed.layout == "bitmask"
    assert packed.values.dtype == torch.bfloat16
    assert packed.values.numel() == sum(support.nnz for support in chosen)


def test_compiles_into_one_graph() -> None:
    model, x = Three(), torch.randn(2, 8)
    wanted = model(x)
    apply(model, join(sites(model), layout="bitmask"))
    with torch.inference_mode():
        compiled = torch.compile(model, fullgraph=True, backend="aot_eager")
        torch.testing.assert_close(compiled(x), wanted)
        torch.testing.assert_close(compiled(2 * x), model(2 * x))


def test_bad_groups() -> None:
    found = sites(Three())
    with pytest.raises(ConfigError, match="two or more sites, not 1"):
        join(found[:1])
    other = sites(nn.Sequential(nn.Linear(4, 4)))
    with pytest.raises(SupportError, match=r"a\.weight has 8.*0\.weight has 4"):
        join([found[0], *other])
    with pytest.raises(SupportError, match="3 sites need as many supports, not 0"):
        join(found, [])
