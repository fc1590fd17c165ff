"""Whole filters cut from a net, the coarse form of pruning that others are compared with."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from gossamer.measure import operations
from gossamer.prune.parts.coupling import Coupling, couplings
from gossamer.prune.parts.kernel_groups import Kernels

_STEPS = 256


def without_filters(
    model: nn.Module, example: Tensor, found: Sequence[Kernels], share: float
) -> nn.Module:
    """The model with channels cut, equally many of every coupling, until these layers do so much
    less work.

    Channels whose filters have the least sum of sizes go; the rest of the net reads zeros there,
    which is what it reads where they are not computed.

    Args:
        model: changed in place.
        example: inputs that it takes, for the trace.
        found: the layers whose work is counted; they may be of an equal model.
        share: of their multiply-accumulates that is to go, at least.
    """
    free = couplings(model, example)
    names = {layer.site.name for layer in found}
    weights = {name: value.detach() for name, value in model.named_parameters() if name in names}
    pixels = _pixels(model, example, weights)
    cut = next(step / _STEPS for step in range(_STEPS)
               if _work(free, weights, pixels, step / _STEPS) <= 1 - share)
    with torch.no_grad():
        for coupling in free:
            size = sum((end.tensor.abs().transpose(0, end.dim).flatten(1).sum(1)
                        for end in coupling.ends if end.role == "out"), torch.zeros(()))
            gone = size.argsort()[: round(cut * coupling.size)]
            for end in coupling.ends:
                if end.role == "in":
                    places = gone[:, None] * end.repeat + torch.arange(end.repeat)
                    end.tensor.index_fill_(end.dim, places.flatten(), 0.0)
    return model


def _work(
    free: Sequence[Coupling], weights: dict[str, Tensor], pixels: dict[str, int], cut: float
) -> float:
    """Share of the layers' work that is left where so much of every coupling is cut."""
    left = total = 0.0
    sides = {(end.tensor.data_ptr(), end.role): 1 - round(cut * coupling.size) / coupling.size
             for coupling in free for end in coupling.ends}
    for name, weight in weights.items():
        work = weight.numel() * pixels[name]
        total += work
        place = weight.data_ptr()
        left += work * sides.get((place, "out"), 1.0) * sides.get((place, "in"), 1.0)
    return left / total


def _pixels(model: nn.Module, example: Tensor, weights: dict[str, Tensor]) -> dict[str, int]:
    """Pixels of every layer's output."""
    ops = {op.name: op for op in operations(model, inputs=example[:1]).ops}
    return {name: ops[name].macs // weight.numel() for name, weight in weights.items()}
