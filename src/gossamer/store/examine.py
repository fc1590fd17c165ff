"""inspect: what a saved folder or a model in memory really holds."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize

from gossamer.core import parse_pattern
from gossamer.layout import Packed, packed_bytes
from gossamer.ops import explain
from gossamer.ops.conv import explain as explain_conv2d
from gossamer.store import lints
from gossamer.store.conformity import broken, conforms, dead_columns
from gossamer.store.convert import Opened, open_folder
from gossamer.store.inspection import Check, Inspection, Other, SiteRow, Totals
from gossamer.store.manifest import NAME, Manifest, read_manifest
from gossamer.store.matrices import (
    Matrix,
    matrices,
    matrix_in,
    packed_parts,
    parameter_name,
    tied_names,
)
from gossamer.store.read import check_companions, existing, stored_items

Piece = Matrix | tuple[str, Tensor]


@dataclass(frozen=True)
class _Source:
    """Where pieces come from, and what is said of them."""

    name: str
    claims: Mapping[str, str]
    disk_bytes: int | None = None
    masked: tuple[dict[str, float], dict[str, float]] = field(default=({}, {}))
    system: dict[str, Any] | None = None
    report: dict[str, Any] | None = None


def inspect(target: str | os.PathLike[str] | nn.Module, *, verify: bool = True) -> Inspection:
    """Layout, density, bits a weight and real pattern of every prunable matrix, with checks.

    Densities count non-zero weights; every group of every matrix is looked at.

    Args:
        target: a folder that gossamer wrote, a plain Hugging Face folder, a compressed-tensors
            folder, or a model in memory. Packed folders are read one file at a time.
        verify: compare every file with its SHA-256; see `load`.

    Raises:
        StoreError: a folder that cannot be read.
        UnsupportedError: a model without prunable matrices.

    >>> found = inspect(nn.Sequential(nn.Linear(4, 8)))
    >>> found.sites[0].name, found.sites[0].density, found.sites[0].bits
    ('0.weight', 1.0, 32.0)
    """
    if isinstance(target, nn.Module):
        return _inspected(model_pieces(target), _model_source(target, type(target).__name__, {}))
    folder = existing(Path(target))
    if (folder / NAME).is_file():
        manifest = read_manifest(folder)
        if manifest.config is None or manifest.layout != "dense":
            check_companions(folder, manifest, verify)
            return _inspected(folder_pieces(folder, manifest, verify), _folder_source(
                folder, manifest
            ))
    opened = open_folder(folder, verify=verify)
    return _inspected(model_pieces(opened.model), _opened_source(folder, opened))


def _folder_source(folder: Path, manifest: Manifest) -> _Source:
    claims = {name: site.pattern for name, site in manifest.sites.items() if site.pattern}
    size = sum(record.size for record in manifest.files.values()) + (folder / NAME).stat().st_size
    return _Source(str(folder), claims, size, system=manifest.system, report=manifest.report)


def _opened_source(folder: Path, opened: Opened) -> _Source:
    if opened.manifest is not None:
        return _folder_source(folder, opened.manifest)
    size = sum(path.stat().st_size for path in folder.iterdir() if path.is_file())
    return _Source(str(folder), opened.patterns, size)


def _model_source(model: nn.Module, name: str, claims: Mapping[str, str]) -> _Source:
    return _Source(name, claims, masked=masked_densities(model))


def model_pieces(model: nn.Module) -> Iterator[Piece]:
    """Every prunable matrix of a model, then every other tensor of its state dict once."""
    found = matrices(model)
    inside = {matrix.param for matrix in found} | set(packed_parts(model))
    for name in masked_densities(model)[0]:  # what the weight is computed from
        owner = name.removesuffix("weight")
        inside |= {f"{name}_orig", f"{name}_mask", f"{owner}parametrizations.weight.original"}
    yield from found
    tied = tied_names(model)
    for name, tensor in model.state_dict().items():
        if name not in inside and name not in tied and parameter_name(name) not in inside:
            yield name, tensor


def folder_pieces(folder: Path, manifest: Manifest, verify: bool = True) -> Iterator[Piece]:
    """The same from a folder, one file in memory at a time."""
    inside: dict[str, list[str]] = {}
    for name, record in manifest.sites.items():
        if not record.parts:
            inside.setdefault(parameter_name(name), []).append(name)
    for name, item in stored_items(folder, manifest, verify=verify):
        if isinstance(item, Packed):
            yield Matrix(name, manifest.sites[name].kind, parameter_name(name), item)
        elif name in inside:
            for site in inside[name]:
                yield matrix_in(site, manifest.sites[site].kind, item)
        else:
            yield name, item


def _inspected(pieces: Iterable[Piece], source: _Source) -> Inspection:
    rows: list[SiteRow] = []
    others: list[Other] = []
    for piece in pieces:
        if isinstance(piece, Matrix):
            rows.append(site_row(piece, source.claims.get(piece.name)))
        else:
            name, tensor = piece
            others.append(Other(name, tuple(tensor.shape), _nonzeros(tensor),
                                tensor.nbytes))
    totals = _totals(rows, others, source.disk_bytes)
    return Inspection(source.name, tuple(rows), tuple(others), totals,
                      _checks(rows, others, totals, source), source.system, source.report)


def _checks(
    rows: list[SiteRow], others: list[Other], totals: Totals, source: _Source
) -> tuple[Check, ...]:
    return (
        lints.density_scope(totals), lints.saves_bytes(rows), lints.packed_claim(rows),
        lints.pattern_claim(rows), lints.kept_zeros(rows),
        lints.effective_weights(*source.masked), lints.kernels(rows), lints.dead_units(rows),
        lints.allocation(rows), lints.first_last(rows, others),
    )


def site_row(matrix: Matrix, claimed: str | None = None) -> SiteRow:
    """Measure one matrix."""
    support = matrix.support()
    weight = matrix.weight
    nonzeros = _nonzeros(weight.values if isinstance(weight, Packed) else weight)
    rows, cols = matrix.shape
    dense = rows * cols * weight.dtype.itemsize
    stored = weight.nbytes if isinstance(weight, Packed) else dense
    smallest = stored if isinstance(weight, Packed) else packed_bytes("auto", support, weight.dtype)
    return SiteRow(
        name=matrix.name, kind=matrix.kind,
        layout=weight.layout if isinstance(weight, Packed) else "dense",
        shape=matrix.shape, dtype=str(weight.dtype).removeprefix("torch."),
        kept=support.nnz, nonzeros=nonzeros,
        bytes=stored, dense_bytes=dense, packed_bytes=smallest or dense,
        dead_rows=int((support.row_counts() == 0).sum()), dead_columns=dead_columns(support),
        conforms=conforms(support), claimed=claimed,
        broken=None if claimed is None else broken(support, parse_pattern(claimed)),
        kernel=_kernel(matrix),
    )


def _nonzeros(tensor: Tensor) -> int:
    """Entries that are not zero; torch counts none in its narrowest and unsigned types."""
    counted = {torch.float8_e4m3fn: torch.float32, torch.float8_e5m2: torch.float32,
              torch.uint16: torch.int32, torch.uint32: torch.int64, torch.uint64: torch.int64}
    return int(tensor.to(counted.get(tensor.dtype, tensor.dtype)).count_nonzero())


def _kernel(matrix: Matrix) -> str:
    """What computes the matrix once it is loaded."""
    packed = matrix.weight
    if not isinstance(packed, Packed) or packed.layout == "dense":
        return "dense"
    if matrix.kind == "conv2d":
        image = torch.empty(1, packed.shape[1], 1, 1, dtype=torch.float32, device=packed.device)
        name = explain_conv2d(image, packed).partition(":")[0]
        return "reference" if name.startswith("reference") else name
    if matrix.kind != "linear":
        return "dense"
    x = torch.empty(1, packed.shape[1], dtype=packed.dtype, device=packed.device)
    name = explain(x, packed).partition(":")[0]
    return "reference" if name.startswith("reference") else name


def _totals(rows: list[SiteRow], others: list[Other], disk: int | None) -> Totals:
    outside = sum(other.bytes for other in others)
    return Totals(
        prunable=sum(row.weights for row in rows),
        prunable_nonzeros=sum(row.nonzeros for row in rows),
        weights=sum(row.weights for row in rows) + sum(other.weights for other in others),
        nonzeros=sum(row.nonzeros for row in rows) + sum(other.nonzeros for other in others),
        bytes=sum(row.bytes for row in rows) + outside,
        dense_bytes=sum(row.dense_bytes for row in rows) + outside,
        disk_bytes=disk,
    )


def masked_densities(model: nn.Module) -> tuple[dict[str, float], dict[str, float]]:
    """Densities of stored parameters and of effective weights, where a mask lies between them.

    Knows torch.nn.utils.prune (``weight_orig`` and ``weight_mask``) and parametrisations.
    """
    stored: dict[str, float] = {}
    effective: dict[str, float] = {}
    for path, module in model.named_modules():
        original = getattr(module, "weight_orig", None)
        if parametrize.is_parametrized(module, "weight"):
            original = getattr(module.parametrizations["weight"], "original", None)
        if isinstance(module, nn.Linear) and isinstance(original, Tensor):
            name = f"{path}.weight" if path else "weight"
            stored[name] = float((original != 0).float().mean())
            effective[name] = float((module.weight != 0).float().mean())
    return stored, effective
