"""unpacked: a copy of a model whose packed layers are dense again."""

from __future__ import annotations

import copy

import torch
from torch import nn

from gossamer.core.errors import UnsupportedError
from gossamer.edit.swap import places_of
from gossamer.layout import unpack
from gossamer.ops import PackedConv2d, PackedLinear
from gossamer.ops.conv.window import FREE


def unpacked(model: nn.Module, dtype: torch.dtype = torch.float32) -> nn.Module:
    """A deep copy in which packed layers are nn.Linear and nn.Conv2d with zeros.

    Packed weights are never dense in the model that is given; the copy takes the memory of a
    dense one.

    Args:
        model: any module; it is not changed.
        dtype: of all floating-point parameters and buffers of the copy.

    Raises:
        UnsupportedError: a packed layer of a kind that has no dense one here.

    >>> layer = PackedLinear.from_linear(torch.eye(4), layout="bitmask", dtype=torch.bfloat16)
    >>> unpacked(nn.Sequential(layer))[0].weight.dtype
    torch.float32
    """
    made = copy.deepcopy(model)
    places = places_of(made)
    for module in list(made.modules()):
        if hasattr(type(module), "packed"):
            dense = _dense(module).train(module.training)
            if module is made:
                made = dense
            for parent, name in places.get(id(module), []):
                setattr(parent, name, dense)
    return made.to(dtype)


def _dense(module: nn.Module) -> nn.Module:
    """The dense layer that computes what a packed one does, in the dtype of its values."""
    if isinstance(module, PackedLinear):
        layer = nn.Linear(
            module.in_features, module.out_features, module.bias is not None, device="meta")
        return _filled(layer, unpack(module.packed), module._parameters["bias"])
    if isinstance(module, PackedConv2d):
        window = module.window
        conv = nn.Conv2d(
            module.in_channels, module.out_channels, window.kernel, window.stride, window.padding,
            window.dilation, bias=module.bias is not None, device="meta")
        weight = unpack(module.packed).view(conv.weight.shape)
        filled = _filled(conv, weight, module._parameters["bias"])
        return filled if module.bounds == FREE else nn.Sequential(
            filled, nn.Hardtanh(*module.bounds))
    raise UnsupportedError(f"{type(module).__name__} has no dense layer to be unpacked into.")


def _filled(
    layer: nn.Linear | nn.Conv2d, weight: torch.Tensor, bias: torch.Tensor | None
) -> nn.Module:
    layer.weight = nn.Parameter(weight)
    layer.bias = None if bias is None else nn.Parameter(bias.detach())
    return layer
