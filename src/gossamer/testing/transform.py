"""check_transform: a system prunes a model exactly, repeatably, and touches nothing else."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from gossamer.core import Keep, parse_pattern, sites
from gossamer.testing.claims import claim, exact_budget, hooks_of, refuses, same_bits

_REPORT = {"system", "config", "sites", "seconds", "memory"}


def check_transform(system: Any, model: Callable[[], nn.Module], data: Any) -> None:
    """Raise AssertionError where a system of the shape ``run(model, data)`` misbehaves.

    It runs on two fresh models under different global seeds and must return bit-equal ones.
    Every site meets its budget exactly, its zeros are exact and its report is JSON-able and
    right; whatever is no site, the modules, the training mode and the hooks are as before; and
    bad input raises a GossamerError that names the site.

    Args:
        system: a configured system, such as ``Wanda(density=0.5)``, with a ``card``.
        model: builds the same small model at every call, so it seeds torch first.
        data: what the system calibrates on.

    >>> from gossamer.prune import Magnitude
    >>> def model():
    ...     torch.manual_seed(0)
    ...     return nn.Sequential(nn.Linear(8, 4))
    >>> check_transform(Magnitude(density=0.5), model, None)
    """
    one, two = model().train(), model().train()
    before = _state(one)
    claim(_differing(before, _state(two)) == [], "The model differs from call to call.")
    modules = [(name, id(module)) for name, module in one.named_modules()]
    trained = [p.requires_grad for p in one.parameters()]
    hooks = hooks_of(one)
    torch.manual_seed(1)
    result = system.run(one, data)
    after = _state(one)
    claim(result.model is one, "The result holds another model than the one given.")
    _budgets(system, one, result)
    pruned = {name.partition("[")[0] for name in result.supports}
    touched = [name for name in _differing(before, after) if name not in pruned]
    claim(touched == [], f"Changed without being a site: {', '.join(touched)}.")
    claim([(n, id(m)) for n, m in one.named_modules()] == modules, "A module was replaced.")
    claim(one.training, "The model was left in another mode.")
    claim([p.requires_grad for p in one.parameters()] == trained, "requires_grad was changed.")
    claim(hooks_of(one) == hooks, f"{hooks_of(one) - hooks} hooks were left behind.")
    _report(result)
    torch.manual_seed(2)
    system.run(two, data)
    claim(_differing(after, _state(two)) == [],
          "The global seed changes the result; take a seed as a field.")
    _bad_input(system, model, data)


def _state(model: nn.Module) -> dict[str, Tensor]:
    named = [*model.named_parameters(), *model.named_buffers()]
    return {name: tensor.detach().clone() for name, tensor in named}


def _differing(one: dict[str, Tensor], two: dict[str, Tensor]) -> list[str]:
    both = set(one) & set(two)
    return sorted(set(one) ^ set(two) | {n for n in both if not same_bits(one[n], two[n])})


def _budgets(system: Any, model: nn.Module, result: Any) -> None:
    found = sites(model, getattr(system, "match", None))
    claim([site.name for site in found] == list(result.supports),
          f"The supports are of {list(result.supports)}, not of every site.")
    pattern = parse_pattern(result.report["pattern"])
    density = result.report["config"].get("density") or pattern.density or 0.5
    uniform = result.report["config"].get("allocation", "uniform") == "uniform"
    for site in found:
        support, weight = result.supports[site.name], site.view()
        claim(support.shape == site.shape, f"{site.name}: a support of shape {support.shape}.")
        claim(not bool(weight[~support.mask()].any()), f"{site.name} is not zero outside.")
        claim(bool(torch.isfinite(weight).all()), f"{site.name} is not finite.")
        if uniform:
            exact_budget(support, pattern, Keep.fraction(density), site.name)


def _report(result: Any) -> None:
    report = json.loads(json.dumps(result.report, allow_nan=False))
    claim(set(report) >= _REPORT, f"The report lacks {sorted(_REPORT - set(report))}.")
    rows = {row["name"]: row for row in report["sites"]}
    claim(list(rows) == list(result.supports), "The report has other sites than the result.")
    for name, support in result.supports.items():
        claim(rows[name]["shape"] == list(support.shape) and
              abs(rows[name]["density"] - support.density) < 1e-12,
              f"{name}: the report says {rows[name]}, the support has {support.density}.")


def _bad_input(system: Any, model: Callable[[], nn.Module], data: Any) -> None:
    broken = model()
    last = sites(broken, getattr(system, "match", None))[-1]
    weight = last.view().clone()
    weight[0, 0] = torch.nan
    last.write(weight)
    refuses(lambda: system.run(broken, data), "a NaN weight", last.name)
    refuses(lambda: system.run(nn.Sequential(nn.ReLU()), data), "a model without any site",
            "no prunable site")
    if system.card.needs:
        refuses(lambda: system.run(model(), None), "a run without calibration data")
