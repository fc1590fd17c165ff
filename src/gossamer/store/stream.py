"""save_streamed: a pruned checkpoint from folder to folder, without the model in memory."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from gossamer.core import ConfigError, Support
from gossamer.store.about import about
from gossamer.store.matrices import (
    Matrix,
    check_supports,
    matrices,
    matrix_in,
    parameter_name,
)
from gossamer.store.write import Item, check_dtype, check_layout, param_items, write_stream


class Tensors(Protocol):
    """A checkpoint whose tensors are read by name, such as `gossamer.models.Checkpoint`."""

    model: nn.Module

    def tensors(self) -> Iterator[tuple[str, tuple[int, ...], torch.dtype]]:
        """Name, shape and dtype of everything that is saved; tied ones once."""

    def read(self, name: str) -> Tensor:
        """One of them."""


def save_streamed(
    source: Tensors,
    folder: str | os.PathLike[str],
    supports: Mapping[str, Support],
    weights: Iterable[tuple[str, Tensor]],
    *,
    layout: str = "auto",
    dtype: torch.dtype | None = None,
    tokenizer: Any = None,
    system: Mapping[str, Any] | None = None,
    report: Mapping[str, Any] | None = None,
    overwrite: bool = False,
) -> Path:
    """Write new weights for some sites of a checkpoint, and everything else as it is.

    One parameter is in memory at a time. Arguments that are not named here are those of `save`.
    With ``layout="dense"`` tensors carry the names that the model has in transformers now, which
    for stacked experts differ from those of older checkpoints.

    Args:
        source: the checkpoint; its model's parameters may lie on the meta device.
        supports: kept entries of the sites that ``weights`` gives.
        weights: ``(site name, weight [out, in])``, the experts of one parameter in a row.
        dtype: dtype of all floating-point tensors; None keeps those of the checkpoint.

    Raises:
        ConfigError: a weight is missing for a support.
    """
    check_supports(supports, matrices(source.model))
    facts = about(source.model, supports, tokenizer=tokenizer, system=system, report=report)
    facts = dataclasses.replace(facts, layout=check_layout(layout), dtype=check_dtype(dtype))
    items = _items(source, supports, weights, layout, dtype)
    return write_stream(folder, items, facts, overwrite=overwrite)


def _items(
    source: Tensors, supports: Mapping[str, Support], weights: Iterable[tuple[str, Tensor]],
    layout: str, dtype: torch.dtype | None,
) -> Iterator[Item]:
    inside: dict[str, list[Matrix]] = {}
    for matrix in matrices(source.model):
        inside.setdefault(matrix.param, []).append(matrix)
    dtypes = {name: dtype or own for name, _, own in source.tensors()}
    done: set[str] = set()
    for param, group in _by_parameter(weights):
        given = _completed(source, inside[param], group)
        whole = (param, _whole(given)) if layout == "dense" or len(given) == 1 else None
        done.add(param)
        yield from param_items(given, whole, supports, layout, dtypes[param])
    missing = {parameter_name(name) for name in supports} - done
    if missing:
        raise ConfigError(f"No weight was given for {min(missing)}, which has a support.")
    for name in dtypes:
        if name not in done:
            tensor = source.read(name)
            found = [matrix_in(m.name, m.kind, tensor) for m in inside.get(name, [])]
            yield from param_items(found, (name, tensor), supports, layout, dtype)


def _by_parameter(
    weights: Iterable[tuple[str, Tensor]],
) -> Iterator[tuple[str, dict[str, Tensor]]]:
    """Weights that follow one another, gathered by the parameter that they belong to."""
    param, group = "", dict[str, Tensor]()
    for name, weight in weights:
        if group and parameter_name(name) != param:
            yield param, group
            group = {}
        param = parameter_name(name)
        group[name] = weight
    if group:
        yield param, group


def _completed(source: Tensors, inside: list[Matrix], group: dict[str, Tensor]) -> list[Matrix]:
    """All matrices of a parameter: the given ones, and the checkpoint's own for the rest."""
    rest = None if len(group) == len(inside) else source.read(inside[0].param)
    return [
        dataclasses.replace(m, weight=group[m.name]) if m.name in group or rest is None
        else matrix_in(m.name, m.kind, rest)
        for m in inside
    ]


def _whole(given: list[Matrix]) -> Tensor:
    """The parameter that the matrices make up, the way its module stores it."""
    weights = [m.weight for m in given if isinstance(m.weight, Tensor)]
    if given[0].kind == "expert":
        return torch.stack(weights)
    return weights[0].t() if given[0].kind == "conv1d" else weights[0]
