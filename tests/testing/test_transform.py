"""check_transform passes the pruning systems and fails on broken ones."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from gossamer.core import Support, sites
from gossamer.prune import Magnitude, SparseGPT, Wanda
from gossamer.testing import check_transform
from tests.zoo import gpt2, inputs, llama, mixtral

TOKENS = inputs("llama", n=8, length=32)["input_ids"]


def tiny() -> nn.Module:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return nn.Sequential(nn.Linear(8, 16), nn.ReLU(), nn.Linear(16, 4))


@pytest.mark.parametrize(("system", "model"), [
    (Magnitude(density=0.3), tiny), (Magnitude(density=0.3, pattern="4x4"), tiny),
    (Wanda(density=0.6), llama), (Wanda(pattern="2:4"), gpt2), (Wanda(density=0.5), mixtral),
    (SparseGPT(density=0.4), llama), (SparseGPT(pattern="2:4", match="*mlp*"), gpt2),
    (Wanda(density=0.5, pattern="unstructured", allocation="owl"), llama),
])
def test_the_systems_of_the_house_pass(system: Any, model: Callable[[], nn.Module]) -> None:
    check_transform(system, model, None if model is tiny else TOKENS)


@dataclass(frozen=True)
class Broken:
    """Magnitude pruning with something done to the model or to the result."""

    after: Callable[[nn.Module, Any], Any]
    density: float = 0.5
    card: Any = Magnitude.card

    def run(self, model: nn.Module, data: Any) -> Any:
        return self.after(model, Magnitude(density=self.density).run(model, data))


def nudge(name: str) -> Callable[[nn.Module, Any], Any]:
    def after(model: nn.Module, result: Any) -> Any:
        model.get_parameter(name).data += 1e-6
        return result

    return after


def hook(model: nn.Module, result: Any) -> Any:
    model[0].register_forward_hook(lambda *args: None)
    return result


def swap(model: nn.Module, result: Any) -> Any:
    model[1] = nn.ReLU()
    return result


def rest(model: nn.Module, result: Any) -> Any:
    model.eval()
    return result


def freeze(model: nn.Module, result: Any) -> Any:
    model.requires_grad_(False)
    return result


def chance(model: nn.Module, result: Any) -> Any:
    sites(model)[0].view().mul_(1 + torch.rand(()))
    return result


def forget(model: nn.Module, result: Any) -> Any:
    supports = dict(result.supports)
    supports.popitem()
    return replace(result, supports=supports)


def overfull(model: nn.Module, result: Any) -> Any:
    site = sites(model)[0]
    mask = result.supports[site.name].mask()
    row, col = (~mask).nonzero()[0].tolist()
    mask[row, col] = True
    return replace(result, supports={**result.supports, site.name: Support.of(mask)})


def unjust(model: nn.Module, result: Any) -> Any:
    rows = [{**row, "density": 0.1} for row in result.report["sites"]]
    return replace(result, report={**result.report, "sites": rows})


def opaque(model: nn.Module, result: Any) -> Any:
    return replace(result, report={**result.report, "model": model})


def silent(model: nn.Module, result: Any) -> Any:
    return replace(result, report={k: v for k, v in result.report.items() if k != "memory"})


def other(model: nn.Module, result: Any) -> Any:
    return replace(result, model=tiny())


@pytest.mark.parametrize(("after", "error", "message"), [
    (nudge("0.bias"), AssertionError, r"without being a site: 0\.bias"),
    (nudge("0.weight"), AssertionError, r"0\.weight is not zero outside"),
    (hook, AssertionError, "1 hooks were left"), (swap, AssertionError, "module was replaced"),
    (rest, AssertionError, "another mode"), (freeze, AssertionError, "requires_grad"),
    (chance, AssertionError, "global seed"), (forget, AssertionError, "not of every site"),
    (overfull, AssertionError, "keeps 65 of 128"), (unjust, AssertionError, "the report says"),
    (opaque, TypeError, "not JSON serializable"), (silent, AssertionError, "lacks .*memory"),
    (other, AssertionError, "another model"),
])
def test_broken_systems_fail(
    after: Callable[[nn.Module, Any], Any], error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        check_transform(Broken(after), tiny, None)


@dataclass(frozen=True)
class Careless:
    """Magnitude pruning that sees nothing wrong in any weight."""

    card: Any = Magnitude.card

    def run(self, model: nn.Module, data: Any) -> Any:
        last = [module for module in model.modules() if isinstance(module, nn.Linear)][-1:]
        for module in last:
            module.weight.data.nan_to_num_()
        return Magnitude(density=0.5).run(model, data)


def test_a_system_that_swallows_bad_input_fails() -> None:
    with pytest.raises(AssertionError, match="NaN weight must raise"):
        check_transform(Careless(), tiny, None)


def test_a_model_that_is_not_the_same_twice_is_no_test() -> None:
    with pytest.raises(AssertionError, match="differs from call to call"):
        check_transform(Magnitude(density=0.5), lambda: nn.Sequential(nn.Linear(4, 4)), None)


def test_needed_data_is_needed() -> None:
    @dataclass(frozen=True)
    class Blind:
        card: Any = Wanda.card

        def run(self, model: nn.Module, data: Tensor | None) -> Any:
            return Magnitude(density=0.5).run(model, data)

    with pytest.raises(AssertionError, match="without calibration data must raise"):
        check_transform(Blind(), tiny, None)
