"""Static costs of a model: bytes by layout and dtype, multiply-accumulates of one token."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from gossamer.core import UnsupportedError, sites
from gossamer.core.sites import is_conv1d
from gossamer.layout import unpack
from gossamer.ops import PackedConv2d, PackedLinear


@dataclass(frozen=True)
class Macs:
    """Multiply-accumulates of one token in the matrices of a model.

    Args:
        dense: with every weight, zeros included.
        kept: with the non-zero weights alone.
    """

    dense: int
    kept: int

    @property
    def density(self) -> float:
        """kept / dense."""
        return self.kept / self.dense if self.dense else 1.0


def model_bytes(model: nn.Module) -> int:
    """Bytes of all parameters and buffers, shared ones counted once.

    >>> model_bytes(nn.Linear(3, 5, bias=False).bfloat16())
    30
    """
    return sum(bytes_by_kind(model).values())


def bytes_by_kind(model: nn.Module) -> dict[tuple[str, str], int]:
    """Bytes by (layout, dtype); packed layers count values, indices and derived row starts.

    >>> layer = PackedLinear.from_linear(torch.eye(16), layout="bitmask", dtype=torch.float16)
    >>> bytes_by_kind(layer)[("bitmask", "float16")], bytes_by_kind(layer)[("bitmask", "uint8")]
    (32, 32)
    """
    table: dict[tuple[str, str], int] = {}
    seen: set[object] = set()
    for layout, tensor in _tensors(model):
        identity: object = id(tensor)
        if tensor.device.type != "meta" and tensor.numel():
            identity = (tensor.data_ptr(), tensor.numel(), tensor.dtype)
        if identity in seen:
            continue
        seen.add(identity)
        kind = (layout, str(tensor.dtype).removeprefix("torch."))
        table[kind] = table.get(kind, 0) + tensor.numel() * tensor.element_size()
    return table


def macs_per_token(model: nn.Module) -> Macs:
    """Multiply-accumulates of one token in all linear layers, head included.

    Of stacked experts only the share that the router chooses is counted. Products between
    activations (attention scores) depend on the context's length and are left out, as are
    convolutions; `operations` counts those as well. Double the figures for floating-point
    operations.

    >>> layer = nn.Linear(8, 4)
    >>> _ = nn.init.zeros_(layer.weight[:2])
    >>> macs_per_token(layer)
    Macs(dense=32, kept=16)
    """
    dense = kept = 0
    for module in model.modules():
        if isinstance(module, PackedLinear):
            packed, weights = module.packed, module.in_features * module.out_features
            # A code of quantised values may be 0 where the weight is not, and two share a byte.
            values = packed.values if packed.dtype.is_floating_point else unpack(packed)
        elif isinstance(module, nn.Linear) or is_conv1d(module):
            values = module.get_parameter("weight")
            weights = values.numel()
        else:
            continue
        dense += weights
        kept += int(torch.count_nonzero(values))
    chosen = _chosen_share(model)
    for view in _experts(model):
        dense += int(view.numel() * chosen)
        kept += int(int(torch.count_nonzero(view)) * chosen)
    return Macs(dense, kept)


def _tensors(model: nn.Module) -> Iterator[tuple[str, Tensor]]:
    for module in model.modules():
        layout = module.layout if isinstance(module, (PackedLinear, PackedConv2d)) else "dense"
        for tensor in (*module.parameters(recurse=False), *module.buffers(recurse=False)):
            yield layout, tensor


def _experts(model: nn.Module) -> list[Tensor]:
    try:
        return [site.view() for site in sites(model) if site.kind == "expert"]
    except UnsupportedError:  # every site is packed already
        return []


def _chosen_share(model: nn.Module) -> float:
    """Experts that a token passes over all experts, as the configuration says; 1 without it."""
    config = getattr(model, "config", None)
    chosen = getattr(config, "num_experts_per_tok", None)
    for name in ("num_local_experts", "num_experts", "n_routed_experts"):
        if chosen and getattr(config, name, None):
            return float(chosen) / float(getattr(config, name))
    return 1.0
