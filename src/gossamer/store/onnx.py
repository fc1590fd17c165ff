"""export_onnx: a model as one ONNX file, with the zeros that pruning made, for other runtimes."""

from __future__ import annotations

import importlib.util
import os
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from gossamer.core import NeedsError, StoreError, UnsupportedError
from gossamer.core.atomic import explained
from gossamer.edit import unpacked
from gossamer.store.read import load

_MOST_INSIDE = 1_500_000_000  # bytes of weights; a protobuf file holds less than 2 GiB

Example = Tensor | tuple[Tensor, ...] | Mapping[str, Tensor]


def export_onnx(
    model: nn.Module | str | os.PathLike[str],
    path: str | os.PathLike[str],
    example: Example,
    dynamic: Mapping[str, Mapping[int, str]] | None = None,
) -> Path:
    """Write a model for onnxruntime and others: float32, packed layers as dense ones with zeros.

    Weights of more than about 1.5 GB lie beside the file, in ``<path>.data``. The file appears
    when it is whole; the model is not changed.

    Args:
        model: any module that torch.export takes, or a folder that `load` reads.
        path: the file to write; replaced where it exists.
        example: inputs, a tensor, a tuple, or tensors by the name of forward's argument.
        dynamic: names of the sizes that may vary, ``{"input_ids": {0: "batch", 1: "length"}}``;
            such a size must be at least 2 in the example. All others are fixed.

    Returns:
        The path.

    Raises:
        NeedsError: onnx or onnxscript is not installed.
        UnsupportedError: torch cannot export the model with this example.
        StoreError: the file cannot be written.
    """
    _need("onnx", "onnxscript")
    target = Path(path)
    if target.is_dir() or not target.parent.is_dir():
        raise StoreError(f"{target} cannot be written: give a file in a folder that exists.")
    source = model if isinstance(model, nn.Module) else load(model)
    dense = unpacked(source).eval()
    if hasattr(getattr(dense, "config", None), "use_cache"):
        dense.config.use_cache = False  # type: ignore[union-attr]
    program = _exported(dense, example, dynamic)
    size = sum(parameter.nbytes for parameter in dense.parameters())
    with explained(target), tempfile.TemporaryDirectory(
        dir=target.parent, prefix=f".{target.name}.tmp-"
    ) as folder:
        # The file names its data by the name that both keep.
        program.save(Path(folder) / target.name, external_data=size > _MOST_INSIDE)
        for written in sorted(Path(folder).iterdir(), reverse=True):  # the data first
            written.replace(target.parent / written.name)
    return target


def _exported(
    dense: nn.Module, example: Example, dynamic: Mapping[str, Mapping[int, str]] | None
) -> Any:
    named = dict(example) if isinstance(example, Mapping) else {}
    plain = () if named else example if isinstance(example, tuple) else (example,)
    shapes = None if dynamic is None else {
        name: dict(dynamic[name]) if name in dynamic else None
        for name in (named or dynamic)
    }
    try:
        return torch.onnx.export(
            dense, plain, kwargs=named, dynamo=True, dynamic_shapes=shapes,
            input_names=list(named) or None, verbose=False,
        )
    except torch.onnx.OnnxExporterError as error:
        reason = str(error.__cause__ or error).strip().splitlines()[0]
        raise UnsupportedError(
            f"{type(dense).__name__} cannot be exported with this example: {reason}"
        ) from error


def _need(*packages: str) -> None:
    for package in packages:
        if importlib.util.find_spec(package) is None:
            raise NeedsError(f'ONNX files need {package}: pip install "gossamer[onnx]".')
