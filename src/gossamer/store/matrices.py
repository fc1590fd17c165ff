"""The prunable matrices of a model, dense or packed, and the tensors that names share."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from gossamer.core import Site, Support, SupportError, UnsupportedError, sites
from gossamer.core.errors import unknown
from gossamer.layout import Packed, pack, support_of, unpack
from gossamer.ops import PackedConv2d, PackedLinear

PACKED = (PackedLinear, PackedConv2d)


@dataclass(frozen=True)
class Matrix:
    """One prunable matrix of a model as it is now.

    Args:
        name: the site's name.
        kind: linear, conv1d, expert or conv2d.
        param: name of the whole parameter; differs from ``name`` for experts.
        weight: the view ``[out, in]``, or the packed weight.
    """

    name: str
    kind: str
    param: str
    weight: Tensor | Packed

    @property
    def shape(self) -> tuple[int, int]:
        """Rows (outputs) and columns (inputs)."""
        return int(self.weight.shape[0]), int(self.weight.shape[1])

    def support(self) -> Support:
        """The kept entries: those of the layout, or the non-zeros of a dense weight."""
        if isinstance(self.weight, Packed):
            return support_of(self.weight)
        return Support.of(self.weight != 0)


def matrices(model: nn.Module) -> list[Matrix]:
    """Every prunable matrix of a model, the packed ones included, in the model's order.

    Raises:
        UnsupportedError: there is none.
    """
    tied = tied_names(model)
    found = {
        name: module for path, module in model.named_modules()
        if isinstance(module, PACKED)
        and (name := f"{path}.weight" if path else "weight") not in tied
    }
    dense = {site.name: site for site in _dense_sites(model, bool(found))}
    everything = [
        Matrix(name, packed_kind(module), name, module.packed) for name, module in found.items()
    ] + [
        Matrix(name, site.kind, parameter_name(name), site.view()) for name, site in dense.items()
    ]
    order = {name: i for i, (name, _) in enumerate(model.named_modules())}
    return sorted(everything, key=lambda m: order[m.param.rpartition(".")[0]])


def packed_kind(module: PackedLinear | PackedConv2d) -> str:
    """The kind of site that a packed layer stands for."""
    return "conv2d" if isinstance(module, PackedConv2d) else "linear"


def _dense_sites(model: nn.Module, may_be_empty: bool) -> list[Site]:
    try:
        return sites(model)
    except UnsupportedError:
        if not may_be_empty:
            raise
        return []


def parameter_name(site: str) -> str:
    """The parameter that a site lies in: its name without an expert's index."""
    return re.sub(r"\[\d+\]$", "", site)


def expert_index(site: str) -> int | None:
    """The expert that a site names, if it does."""
    found = re.search(r"\[(\d+)\]$", site)
    return int(found[1]) if found else None


def matrix_in(site: str, kind: str, param: Tensor) -> Matrix:
    """The matrix of a site inside its whole dense parameter."""
    index = expert_index(site)
    return Matrix(site, kind, parameter_name(site),
                  as_matrix(kind, param if index is None else param[index]))


def as_matrix(kind: str, weight: Tensor) -> Tensor:
    """``[out, in]`` of a weight as its module stores it."""
    if kind == "conv2d":
        return weight.flatten(1)
    return weight.t() if kind == "conv1d" else weight


def packed_parts(model: nn.Module) -> dict[str, str]:
    """Name of the weight that each part in the state dict belongs to, in every place."""
    return {
        f"{path}.{part}" if path else part: f"{path}.weight" if path else "weight"
        for path, module in model.named_modules(remove_duplicate=False)
        if isinstance(module, PACKED)
        for part in module.packed.parts
    }


def tied_names(model: nn.Module) -> dict[str, str]:
    """Names in the state dict that share another name's tensor: ``{alias: first name}``.

    Parts of a packed layer that stands in several places count under ``<path>.weight``.
    """
    parts = packed_parts(model)
    first: dict[int, str] = {}
    tied: dict[str, str] = {}
    for name, tensor in model.state_dict(keep_vars=True).items():
        shown = parts.get(name, name)
        known = first.setdefault(id(tensor), shown)
        if known != shown:
            tied[shown] = known
    return tied


# Layouts whose values are the kept entries and nothing else.
_UNPADDED = ("bitmask", "nm", "csr", "condensed", "bsr", "ablated")


def kept(packed: Packed) -> int:
    """Number of entries that a packed matrix keeps; the non-zeros where it is stored dense."""
    return packed.values.numel() if packed.layout in _UNPADDED else support_of(packed).nnz


def check_supports(supports: Mapping[str, Support], found: list[Matrix]) -> None:
    """Raise SupportError for a name that is no site of the model or a shape that differs."""
    shapes = {matrix.name: matrix.shape for matrix in found}
    for name, support in supports.items():
        if name not in shapes:
            raise SupportError(unknown("site", name, shapes))
        if support.shape != shapes[name]:
            raise SupportError(f"{name} has shape {shapes[name]}, its support {support.shape}.")


def check_stored(model: nn.Module, found: list[Matrix]) -> None:
    """Raise UnsupportedError where the state dict does not hold the model's own weights."""
    stored = set(model.state_dict())
    for matrix in found:
        if isinstance(matrix.weight, Tensor) and matrix.param not in stored:
            raise UnsupportedError(
                f"{matrix.name} is computed from a mask or a parametrisation and is not in the "
                "state dict; make it permanent first (torch.nn.utils.prune.remove, "
                "torch.nn.utils.parametrize.remove_parametrizations)."
            )


def pack_matrix(
    matrix: Matrix, support: Support | None, layout: str, dtype: torch.dtype | None
) -> Packed:
    """The matrix in a layout, holding everything that is not zero.

    Raises:
        SupportError: a non-zero weight lies outside the support and would be lost.
    """
    weight = matrix.weight
    if isinstance(weight, Packed):
        if support is None and layout == weight.layout:
            values = weight.values
            if dtype is not None and values.is_floating_point():
                values = values.to(dtype)
            return Packed(weight.layout, weight.shape, {**weight.parts, "values": values})
        support = support_of(weight) if support is None else support
        weight = unpack(weight)
    if support is not None:
        lost = int((weight.ne(0) & ~support.mask().to(weight.device)).sum())
        if lost:
            raise SupportError(
                f"{matrix.name} has {lost} non-zero weights outside its support; apply the "
                "support to the model before saving it."
            )
    return pack(weight, support, layout, dtype)
