"""join: layers that read the same input become one packed product, as q, k and v do."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from gossamer.core.errors import ConfigError, SupportError
from gossamer.core.sites import Site
from gossamer.core.support import Support
from gossamer.edit.swap import Swap
from gossamer.ops.linear import PackedLinear


def readers(sites: Sequence[Site], run: Callable[[], object]) -> list[list[Site]]:
    """The sites that read the very same tensor while ``run`` runs the model, group by group.

    Groups are in the order of their calls and hold two or more sites; every site is in at most
    one. Experts are left out. The inputs of all sites stay in memory during the run, so a
    short input is best.

    >>> from gossamer.core import sites
    >>> class Gated(nn.Module):
    ...     def __init__(self):
    ...         super().__init__()
    ...         self.gate, self.up = nn.Linear(4, 8), nn.Linear(4, 8)
    ...         self.down = nn.Linear(8, 4)
    ...     def forward(self, x):
    ...         return self.down(self.gate(x).relu() * self.up(x))
    >>> model = Gated()
    >>> found = readers(sites(model), lambda: model(torch.ones(1, 4)))
    >>> [[site.name for site in group] for group in found]
    [['gate.weight', 'up.weight']]
    """
    calls: list[tuple[Tensor, Site]] = []  # holding the tensors keeps their identities apart

    def note(site: Site) -> Callable[..., None]:
        def hook(_: nn.Module, inputs: tuple[Any, ...]) -> None:
            calls.append((inputs[0], site))
        return hook

    handles = [site.module.register_forward_pre_hook(note(site))
               for site in sites if site.index is None]
    try:
        with torch.no_grad():
            run()
    finally:
        for handle in handles:
            handle.remove()
    groups: dict[int, list[Site]] = {}
    taken: set[str] = set()
    for tensor, site in calls:
        if site.name not in taken:
            taken.add(site.name)
            groups.setdefault(id(tensor), []).append(site)
    return [group for group in groups.values() if len(group) > 1]


def join(
    sites: Sequence[Site], supports: Sequence[Support] | None = None, layout: str = "auto",
    dtype: torch.dtype | None = None,
) -> list[Swap]:
    """The swaps that make several layers on one input one packed product.

    Right whatever the inputs are; one product a call only where all of the layers, in this
    order, get the same tensor. Meant for running: remove the edits before saving.

    Args:
        sites: of one group of `readers`, all with the same number of columns.
        supports: what is kept of each; None keeps the non-zeros.
        layout: as of `layout.pack`.
        dtype: of the packed values; None keeps that of the weights.

    Raises:
        ConfigError: fewer than two sites.
        SupportError: widths that differ, or a support too few or too many.
    """
    if len(sites) < 2:
        raise ConfigError(f"Joining needs two or more sites, not {len(sites)}.")
    if len({site.shape[1] for site in sites}) != 1:
        widths = ", ".join(f"{site.name} has {site.shape[1]}" for site in sites)
        raise SupportError(f"Joined sites must read inputs of one width: {widths}.")
    if supports is not None and len(supports) != len(sites):
        raise SupportError(f"{len(sites)} sites need as many supports, not {len(supports)}.")
    weight = torch.cat([site.view() for site in sites])
    support = None
    if supports is not None:
        patterns = {one.pattern for one in supports}
        bits = torch.cat([one.bits for one in supports])
        shape = (weight.shape[0], weight.shape[1])
        support = Support(shape, bits, *patterns) if len(patterns) == 1 else Support(shape, bits)
    product = PackedLinear.from_linear(weight, _biases(sites), support, layout, dtype)
    shared = Joined(product, [site.shape[0] for site in sites])
    return [Swap(site, JoinedPart(shared, place)) for place, site in enumerate(sites)]


class Joined(nn.Module):
    """One product for several layers, kept from the first layer's call to the last one's."""

    def __init__(self, product: PackedLinear, sizes: Sequence[int]) -> None:
        super().__init__()
        self.product, self.sizes = product, list(sizes)
        self._input: Tensor | None = None
        self._outputs: tuple[Tensor, ...] = ()

    def part(self, x: Tensor, place: int) -> Tensor:
        """The rows of one layer; computed anew unless x is the tensor of the call before."""
        if self._input is not x:
            self._input, self._outputs = x, self.product(x).split(self.sizes, dim=-1)
        output = self._outputs[place]
        if place == len(self.sizes) - 1:
            self._input, self._outputs = None, ()
        return output


class JoinedPart(nn.Module):
    """One layer of a joined product, in that layer's place."""

    def __init__(self, joined: Joined, place: int) -> None:
        super().__init__()
        self.joined, self.place = joined, place
        self.out_features = joined.sizes[place]
        self.in_features = joined.product.in_features

    def forward(self, x: Tensor) -> Tensor:
        return self.joined.part(x, self.place)

    def extra_repr(self) -> str:
        """Shape of the layer that this stands for."""
        return f"in_features={self.in_features}, out_features={self.out_features}"


def _biases(sites: Sequence[Site]) -> Tensor | None:
    """The layers' biases one after another, zeros for those without."""
    found = [getattr(site.module, "bias", None) for site in sites]
    if all(bias is None for bias in found):
        return None
    return torch.cat([
        site.view().new_zeros(site.shape[0]) if bias is None else bias.detach()
        for site, bias in zip(sites, found)
    ])
