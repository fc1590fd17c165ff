"""Sites: the prunable weight matrices of a model, found by type and shape."""

from __future__ import annotations

import difflib
import fnmatch
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn

from gossamer.core.errors import SupportError, UnsupportedError

Kind = Literal["linear", "conv1d", "expert", "conv2d"]


@dataclass(frozen=True)
class Site:
    """One weight matrix of a model, seen as ``[out, in]`` whatever way the module stores it.

    Args:
        name: dotted path of the parameter, with ``[e]`` appended for expert ``e``.
        module: the module that owns the parameter.
        kind: linear ``[out, in]``, conv1d ``[in, out]``, expert ``[experts, out, in]`` or conv2d
            ``[out, in, rows, columns]``, whose "in" are the channels' places in the kernel.
        param: the parameter's name inside the module.
        index: the expert, for kind expert.
    """

    name: str
    module: nn.Module
    kind: Kind
    param: str = "weight"
    index: int | None = None

    @property
    def shape(self) -> tuple[int, int]:
        """``(out, in)``."""
        view = self.view()
        return view.shape[0], view.shape[1]

    def view(self) -> Tensor:
        """The weight as ``[out, in]``: a view into the parameter, never a copy."""
        weight: Tensor = getattr(self.module, self.param).detach()
        if self.kind == "conv1d":
            return weight.t()
        if self.kind == "conv2d":
            return weight.view(weight.shape[0], -1)
        return weight if self.index is None else weight[self.index]

    def write(self, weight: Tensor) -> None:
        """Overwrite the parameter's values in place with ``[out, in]``; dtype and device stay."""
        if tuple(weight.shape) != self.shape:
            raise SupportError(
                f"{self.name} has shape {self.shape}; values of {tuple(weight.shape)} do not fit."
            )
        with torch.no_grad():
            self.view().copy_(weight)


def sites(model: nn.Module, match: str | None = None) -> list[Site]:
    """Every prunable matrix, in the order of the model's modules.

    Inside the repeated blocks (see `blocks`) these are Linear layers, transformers' Conv1D and
    stacked experts (3-D parameters); embeddings, heads, norms and routers are outside or of
    another type. A model without repeated blocks gives all of its Linear layers and all of its
    nn.Conv2d without groups. A parameter that is shared by several modules, or with an
    embedding, is listed once or not at all. A packed layer has no dense weight to view or to
    write, so it is no site; see `packed_layers`.

    Args:
        model: any module.
        match: a shell pattern that the site's name must match, such as ``*mlp*``.

    Raises:
        UnsupportedError: nothing prunable is found, all of it is packed, or a weight that is
            found is quantised or a convolution's that is not contiguous.

    >>> [s.name for s in sites(nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 2)))]
    ['0.weight', '2.weight']
    """
    embedded = {storage(m.weight) for m in model.modules() if isinstance(m, nn.Embedding)}
    found: list[Site] = []
    seen: set[tuple[tuple[int, int], int | None]] = set()
    for path, block in blocks(model):
        for name, module in block.named_modules():
            full = ".".join(part for part in (path, name) if part)
            for site in (_sites_of(full, module) if path else _plain_sites_of(full, module)):
                place = storage(getattr(module, site.param))
                if place not in embedded and (place, site.index) not in seen:
                    seen.add((place, site.index))
                    found.append(site)
    kept = [s for s in found if match is None or fnmatch.fnmatch(s.name, match)]
    if not found and (packed := packed_layers(model)):
        raise already_packed(model, packed)
    if not kept:
        if found and match is not None:
            names = [site.name for site in found]
            near = difflib.get_close_matches(match, names, n=3, cutoff=0.5) or names[:3]
            raise UnsupportedError(
                f"{type(model).__name__} has no prunable site that matches {match!r}: of its "
                f"{len(names)}, try {', '.join(near)}."
            )
        raise UnsupportedError(
            f"{type(model).__name__} has no prunable site: gossamer prunes nn.Linear, "
            "transformers Conv1D, stacked expert weights and, in models without repeated blocks, "
            "nn.Conv2d with groups=1."
        )
    for site in kept:
        dtype = getattr(site.module, site.param).dtype
        if not dtype.is_floating_point:
            raise UnsupportedError(
                f"{site.name} holds {dtype} values: gossamer prunes floating-point weights; load "
                "the model without quantisation."
            )
        if site.kind == "conv2d" and not getattr(site.module, site.param).is_contiguous():
            raise UnsupportedError(
                f"{site.name} is stored with its channels last, which has no view as [out, in]; "
                "call model.to(memory_format=torch.contiguous_format) first."
            )
    return kept


def packed_layers(model: nn.Module) -> list[str]:
    """Paths of the packed layers in the repeated blocks, in the order of the model's modules."""
    return [
        ".".join(part for part in (path, name) if part)
        for path, block in blocks(model) for name, module in block.named_modules()
        if _is_packed(module)
    ]


def already_packed(model: nn.Module, packed: list[str]) -> UnsupportedError:
    """The error for a model whose layers of these paths are packed and so cannot be pruned."""
    more = f" and {len(packed) - 1} more" if len(packed) > 1 else ""
    return UnsupportedError(
        f"{type(model).__name__} holds packed layers ({packed[0] or 'itself'}{more}), which cannot "
        "be pruned: prune the dense model, or write an unpacked copy of a saved folder with "
        "`gossamer pack FOLDER --out OUT --layout dense`."
    )


def storage(weight: Tensor) -> tuple[int, int]:
    """Where a tensor's values lie; equal for two tensors that are tied."""
    if weight.device.type == "meta" or weight.untyped_storage().data_ptr() == 0:
        return id(weight), 0
    return weight.untyped_storage().data_ptr(), int(weight.storage_offset())


def blocks(model: nn.Module) -> list[tuple[str, nn.Module]]:
    """The repeated blocks of a model as ``(path, module)``, or ``[("", model)]`` without any.

    They are the members of the ModuleList whose equal-typed children own the greatest share of
    the parameters.
    """
    lists = [
        (name, module)
        for name, module in model.named_modules()
        if isinstance(module, nn.ModuleList) and len(module) > 0
        and len({type(child) for child in module}) == 1
        and any(_is_packed(inner) or _sites_of("", inner) for inner in module.modules())
    ]
    if not lists:
        return [("", model)]
    path, chosen = max(lists, key=lambda item: _size(item[1]))
    return [(f"{path}.{i}" if path else str(i), child) for i, child in enumerate(chosen)]


def _size(module: nn.Module) -> int:
    packed = (inner for inner in module.modules() if _is_packed(inner))
    return sum(parameter.numel() for parameter in module.parameters()) + sum(
        part.numel() for inner in packed for part in inner.buffers(recurse=False))


def _is_packed(module: nn.Module) -> bool:
    """True for a layer that gives its weight as ``packed``, as those of `gossamer.ops` do."""
    return hasattr(type(module), "packed")


def _sites_of(path: str, module: nn.Module) -> list[Site]:
    prefix = f"{path}." if path else ""
    if isinstance(module, nn.Linear):
        return [Site(f"{prefix}weight", module, "linear")]
    if is_conv1d(module):
        return [Site(f"{prefix}weight", module, "conv1d")]
    return list(_expert_sites(prefix, module))


def _plain_sites_of(path: str, module: nn.Module) -> list[Site]:
    """Those of a model without repeated blocks, where convolutions count as well."""
    if isinstance(module, nn.Conv2d) and module.groups == 1:
        return [Site(f"{path}.weight" if path else "weight", module, "conv2d")]
    return _sites_of(path, module)


def is_conv1d(module: nn.Module) -> bool:
    """True for transformers' Conv1D, a Linear that stores ``[in, out]``."""
    weight = getattr(module, "weight", None)
    return (
        type(module).__name__ == "Conv1D"
        and type(module).__module__.startswith("transformers.")
        and isinstance(weight, nn.Parameter)
        and weight.dim() == 2
    )


def _expert_sites(prefix: str, module: nn.Module) -> Iterator[Site]:
    """Stacked experts: two 3-D parameters of equal length whose widths chain."""
    stacked = {n: p for n, p in module.named_parameters(recurse=False) if p.dim() == 3}
    if len(stacked) != 2:
        return
    (_, first), (_, second) = stacked.items()
    experts, out, width = first.shape
    if second.shape[0] != experts or second.shape[1] != width or out != 2 * second.shape[2]:
        return
    for name in stacked:
        for index in range(experts):
            yield Site(f"{prefix}{name}[{index}]", module, "expert", name, index)
