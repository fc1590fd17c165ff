"""Collect the statistics of the sites of one block while it runs, through temporary hooks."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from gossamer.core.errors import UnsupportedError
from gossamer.core.sites import Site
from gossamer.observe.stats import Stats, check_needs


class Collector:
    """Statistics by site name; sites fed by the very same tensor share one `Stats`.

    `groups` lists the sites in order of execution, those with a common input together; it is
    known after the first forward pass.
    """

    def __init__(self, sites: Sequence[Site], needs: Callable[[Site], Collection[str]]) -> None:
        self.needs = {site.name: check_needs(needs(site)) for site in sites}
        self.sites = list(sites)
        self.stats: dict[str, Stats] = {}
        self.groups: list[list[Site]] = []
        self._live: list[tuple[Tensor, Stats, list[Site]]] = []

    @contextmanager
    def attached(self) -> Iterator[None]:
        """Hooks are on the modules inside this context and gone after it."""
        handles = []
        for module, members in self._by_module():
            hook = self._expert_hook(members) if members[0].kind == "expert" else (
                self._input_hook(members[0]))
            handles.append(module.register_forward_pre_hook(hook, with_kwargs=True))
        try:
            yield
        finally:
            for handle in handles:
                handle.remove()
            self._live.clear()

    def end_batch(self) -> None:
        """Forget which tensors were seen, so that memory can be reused by the next batch."""
        self._live.clear()

    def _by_module(self) -> list[tuple[nn.Module, list[Site]]]:
        found: dict[int, tuple[nn.Module, list[Site]]] = {}
        for site in self.sites:
            found.setdefault(id(site.module), (site.module, []))[1].append(site)
        return list(found.values())

    def _stats(self, site: Site) -> Stats:
        if site.name not in self.stats:
            self.stats[site.name] = Stats(site.name, self.needs[site.name])
            for group in self.groups:  # all experts' first (or second) matrices form one group
                if site.kind == "expert" and group[0].module is site.module and (
                        group[0].param == site.param):
                    group.append(site)
                    break
            else:
                self.groups.append([site])
        return self.stats[site.name]

    def _input_hook(self, site: Site) -> Callable[..., None]:
        def hook(module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
            x = args[0] if args else kwargs["input"]
            for seen, stats, group in self._live:
                if seen is x or _same_memory(seen, x):
                    if site.name not in self.stats and stats.needs == self.needs[site.name]:
                        self.stats[site.name] = stats
                        group.append(site)
                    if self.stats.get(site.name) is stats:
                        return
            stats = self._stats(site)
            group = next(g for g in self.groups if self.stats[g[0].name] is stats)
            self._live.append((x, stats, group))  # the reference keeps the address from reuse
            stats.add(x)

        return hook

    def _expert_hook(self, members: list[Site]) -> Callable[..., None]:
        def hook(module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
            names = ("hidden_states", "top_k_index", "top_k_weights")
            given = [*args, *(kwargs[n] for n in names[len(args):] if n in kwargs)]
            if len(given) != 3:
                raise UnsupportedError(
                    f"{members[0].name}: experts called with {len(given)} inputs; gossamer knows "
                    "hidden states, expert index and expert weight."
                )
            first = stacked(module)[0]
            by_expert: dict[int, list[Site]] = {}
            for site in members:
                by_expert.setdefault(site.index or 0, []).append(site)
            for expert, pair in by_expert.items():
                x, inner = expert_inputs(module, expert, given[0], given[1])
                for site in pair:
                    self._stats(site).add(x if site.param == first else inner)

        return hook


def _same_memory(a: Tensor, b: Tensor) -> bool:
    return a.data_ptr() == b.data_ptr() and a.shape == b.shape and a.stride() == b.stride()


def stacked(module: nn.Module) -> list[str]:
    """Names of the 3-D parameters of an experts module: first matrix, second matrix."""
    return [name for name, p in module.named_parameters(recurse=False) if p.dim() == 3]


def expert_inputs(
    module: nn.Module, expert: int, hidden: Tensor, chosen: Tensor
) -> tuple[Tensor, Tensor]:
    """Inputs of one expert's two matrices: ``[tokens, hidden]`` and ``[tokens, intermediate]``."""
    hidden = hidden.reshape(-1, hidden.shape[-1])
    x = hidden[(chosen == expert).any(-1)]
    weight = getattr(module, stacked(module)[0])[expert]
    gate, up = nn.functional.linear(x, weight).chunk(2, dim=-1)
    activation: Callable[[Tensor], Tensor] = module.act_fn  # type: ignore[assignment]
    return x, activation(gate) * up


def prove_experts(module: nn.Module, name: str, given: Sequence[Tensor]) -> None:
    """Raise UnsupportedError unless `expert_inputs` explains the module's output."""
    hidden, chosen, weights = given
    if not hasattr(module, "act_fn"):
        raise UnsupportedError(f"{name}: experts of type {type(module).__name__} have no "
                               "act_fn, so gossamer cannot tell what their second matrix sees.")
    with torch.no_grad():
        truth = module(hidden, chosen, weights)
        built = torch.zeros_like(truth)
        second = getattr(module, stacked(module)[1])
        for expert in range(second.shape[0]):
            _, inner = expert_inputs(module, expert, hidden, chosen)
            rows = (chosen == expert).any(-1)
            share = (weights * (chosen == expert)).sum(-1)[rows]
            out = nn.functional.linear(inner, second[expert]) * share[:, None]
            built[rows] += out.to(built.dtype)
        scale = truth.float().abs().max().clamp_min(1e-9)
        if float((built - truth).float().abs().max() / scale) > 0.05:
            raise UnsupportedError(
                f"{name}: experts of type {type(module).__name__} do not compute "
                "act(gate) * up; leave them out with match=."
            )
