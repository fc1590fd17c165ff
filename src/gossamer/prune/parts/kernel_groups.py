"""Kernels kept or dropped by groups: one input's k x k weights, for G outputs at once."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn.functional import pad

from gossamer.core import Keep, Pattern, Site, Support, UnsupportedError, select, sites
from gossamer.edit import Swap
from gossamer.ops import PackedConv2d
from gossamer.ops.conv import FREE, Bounds
from gossamer.prune.parts.coupling import Coupling, couplings
from gossamer.prune.parts.regroup import regroup, retained

LEAST_INPUTS = 16  # fewer leave a group nothing to choose from
_ROUNDING = 1e-4   # most that sums in another order may change an output, of the greatest
EVEN = 0.13        # share of zeros from which on lists of inputs pay; see `group_time`


@dataclass(frozen=True)
class Kernels:
    """A layer's weight ``[outputs, units * places]``, whose units are kept or dropped whole.

    Args:
        site: the layer.
        places: weights of a unit in one output: the k x k of an input, one of a depthwise tap.
    """

    site: Site
    places: int

    def pattern(self, size: int) -> Pattern:
        """Groups of so many outputs keep the same units, every group equally many."""
        return Pattern(unit=(size, self.places), pool=(size, None))

    def score(self) -> Tensor:
        """Sum of the sizes of every unit's weights: ``[outputs, units]``."""
        weight = self.site.view()
        return weight.abs().view(len(weight), -1, self.places).sum(2)

    def kept(self, share: float) -> int:
        """Units that a group keeps where this share of them is pruned; at least one.

        >>> Kernels(Site("0.weight", nn.Conv2d(16, 8, 3), "conv2d"), 9).kept(0.3)
        11
        """
        units = self.site.shape[1] // self.places
        return max(1, units - round(share * units))

    def choose(self, share: float, size: int) -> Support:
        """The best units of every group by their sum of sizes; the last group may have fewer rows.
        """
        return self.best(self.kept(share), size)

    def best(self, kept: int, size: int) -> Support:
        """So many units of every group, the ones of greatest size."""
        weight = self.site.view()
        grown = pad(weight.abs(), (0, 0, 0, -len(weight) % size))
        chosen = select(grown, self.pattern(size), Keep.count(kept)).mask()
        return Support.of(chosen[: len(weight)].contiguous(), self.pattern(size))

    def used(self, size: int) -> int:
        """The most units that any group has a weight in that is not zero."""
        units = self.score()
        grown = pad(units, (0, 0, 0, -len(units) % size)).view(-1, size, units.shape[1])
        return int((grown.sum(1) != 0).sum(1).max())


def kernels(model: nn.Module, match: str | None = None, depthwise: bool = False) -> list[Kernels]:
    """The layers that are pruned: convolutions of at least 16 channels, without the first one.

    Grouped convolutions stay dense but for depthwise ones, which are taken where asked.

    Raises:
        UnsupportedError: there is none.
    """
    found = [Kernels(site, _places(site)) for site in sites(model, match)
             if isinstance(site.module, nn.Conv2d) and site.module.in_channels >= LEAST_INPUTS]
    if depthwise:
        found += [Kernels(Site(f"{name}.weight", module, "conv2d"), 1)
                  for name, module in model.named_modules() if _is_depthwise(module)]
    if not found:
        raise UnsupportedError(
            f"{type(model).__name__} has no convolution of at least {LEAST_INPUTS} channels, which "
            "is what is pruned here."
        )
    return found


def _places(site: Site) -> int:
    weight: Tensor = getattr(site.module, site.param)
    return weight.shape[2] * weight.shape[3]


def _is_depthwise(module: nn.Module) -> bool:
    return isinstance(module, nn.Conv2d) and (
        module.groups == module.in_channels == module.out_channels > 1
        and module.weight[0].numel() > 1)


def rearrange(
    model: nn.Module, example: Tensor, found: Sequence[Kernels], share: float, size: int,
    seed: int = 0,
) -> dict[str, float]:
    """Permute channels of the whole net so that groups retain more; what it computes stays.

    Every coupling is searched by itself: an order of a layer's inputs changes nothing of what its
    groups of outputs retain.

    Args:
        model: changed in place.
        example: inputs that it takes, for the trace and for the proof that nothing changed.
        found: the layers that will be pruned.
        share: of the units of each that will be pruned.
        size: outputs of a group.
        seed: of the search.

    Returns:
        Share of the score that is retained ``before`` and ``after``, and the greatest ``change``
        of an output, relative to the greatest output.

    Raises:
        UnsupportedError: an output changed by more than rounding; all channels are back in place.
    """
    wanted = outputs(model, example)
    before = share_retained(found, share, size)
    by_weight = {id(layer.site.module.weight): layer for layer in found}
    undo: list[tuple[Coupling, Tensor]] = []
    for coupling in couplings(model, example):
        layers = [by_weight[id(end.tensor)] for end in coupling.ends
                  if end.role != "in" and id(end.tensor) in by_weight]
        if not layers:
            continue
        order = regroup([layer.score() for layer in layers],
                        [layer.kept(share) for layer in layers], size, seed)
        coupling.permute(order)
        undo.append((coupling, order.argsort()))
    change = float((outputs(model, example) - wanted).abs().max() / wanted.abs().max().clamp(1e-9))
    if not change <= _ROUNDING:
        for coupling, order in reversed(undo):
            coupling.permute(order)
        raise UnsupportedError(
            f"Permuting the channels of {type(model).__name__} changed its output by {change:.2g} "
            "of the greatest, so they were put back; prune it with rearrange=False."
        )
    return {"before": before, "after": share_retained(found, share, size), "change": change}


def share_retained(found: Sequence[Kernels], share: float, size: int) -> float:
    """Score that the best units of all groups have, over the whole score."""
    scores = [layer.score().double() for layer in found]
    kept = sum(retained([score], [layer.kept(share)], size) for score, layer in zip(scores, found))
    return kept / max(1e-30, sum(float(score.sum()) for score in scores))


def outputs(model: nn.Module, example: Tensor) -> Tensor:
    """What the model makes of an example in eval mode, flat."""
    modes = [module for module in model.modules() if module.training]
    model.eval()
    with torch.no_grad():
        y = model(example)
    for module in modes:
        module.training = True
    if not isinstance(y, Tensor):
        raise UnsupportedError(f"{type(model).__name__} gives {type(y).__name__} and not one "
                               "tensor; prune it with rearrange=False.")
    return y.double().flatten()


def packed_edits(found: Sequence[Kernels], size: int, bounds: Bounds = FREE) -> list[Swap]:
    """Packed layers in layout channel_groups for those where enough is zero; depthwise stay."""
    edits = []
    for layer in found:
        module = layer.site.module
        units = layer.site.shape[1] // layer.places
        if not isinstance(module, nn.Conv2d) or module.groups > 1:
            continue
        kept = max(1, layer.used(size))
        if kept <= (1 - EVEN) * units:
            packed = PackedConv2d.from_conv(module, layer.best(kept, size), "channel_groups",
                                            bounds=bounds)
            edits.append(Swap(layer.site, packed))
    return edits
