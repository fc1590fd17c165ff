"""Where text comes from: embedded parts of a novel, files, token tensors, hub data sets."""

from __future__ import annotations

import importlib.resources
import pickle
from pathlib import Path
from typing import TypeAlias

import numpy as np
import torch
from torch import Tensor

from gossamer.core.errors import ConfigError, DataError, NeedsError, unknown

Text: TypeAlias = str | Tensor
"""A string, or tokens: int64 ``[tokens]`` or ``[rows, tokens]``."""

_EMBEDDED = ("calibration", "evaluation")
_TOKEN_FILES = (".pt", ".npy", ".safetensors")


def read_text(source: str | Path) -> Text:
    """The text that a source names, or the token tensor where the file holds one.

    Args:
        source: ``embedded:calibration`` or ``embedded:evaluation`` (two disjoint parts of a
            novel that are shipped with the package), ``hub:NAME[:config][:split][:column]``
            (a Hugging Face data set; split ``train`` and column ``text`` unless named), or the
            path of a UTF-8 text file or of an integer tensor (.pt, .npy, .safetensors).

    Raises:
        DataError: the file is missing, empty, not UTF-8, holds no integer tensor, or the data
            set cannot be had.
        NeedsError: a hub source without the ``datasets`` package.
        ConfigError: an unknown embedded text.

    >>> read_text("embedded:calibration")[:9]
    'Chapter 1'
    """
    name = str(source)
    if name.startswith("embedded:"):
        return _embedded(name.removeprefix("embedded:"))
    if name.startswith("hub:"):
        return _nonempty(_hub(name.removeprefix("hub:")), name)
    path = Path(source)
    if not path.is_file():
        known = ", ".join(f"'embedded:{part}'" for part in _EMBEDDED)
        raise DataError(
            f"No text at {name!r}: give the path of a file, {known}, or 'hub:NAME' for a data set."
        )
    if path.suffix in _TOKEN_FILES:
        return _tokens(path)
    try:
        return _nonempty(path.read_text(encoding="utf-8"), name)
    except UnicodeDecodeError as error:
        raise DataError(
            f"{name} is not UTF-8 text (byte {error.start}); convert it, or give token ids as "
            f"{', '.join(_TOKEN_FILES)}."
        ) from error


def _nonempty(text: str, name: str) -> str:
    if not text.strip():
        raise DataError(f"{name} holds no text; give a source with at least one paragraph.")
    return text


def _embedded(part: str) -> str:
    if part not in _EMBEDDED:
        raise ConfigError(unknown("embedded text", part, _EMBEDDED))
    folder = importlib.resources.files("gossamer.data").joinpath("text")
    return folder.joinpath(f"{part}.txt").read_text(encoding="utf-8")


def _hub(spec: str) -> str:
    """The rows of one column of a hub data set, joined by blank lines."""
    name, config, split, column, *rest = [*spec.split(":"), "", "", ""]
    if not name or any(rest):
        raise DataError(f"'hub:{spec}' is not of the form hub:NAME[:config][:split][:column].")
    split, column = split or "train", column or "text"
    try:
        from datasets import load_dataset
    except ImportError as error:
        raise NeedsError(
            f"Reading the data set {name!r} needs the datasets package: pip install datasets."
        ) from error
    try:
        rows = load_dataset(name, config or None, split=split)
    except (OSError, ValueError) as error:
        raise DataError(
            f"The data set {name!r} (split {split!r}) cannot be had: {_first_line(error)}; check "
            "the name and the connection, or give a local text file."
        ) from error
    if column not in rows.column_names:
        raise DataError(unknown(f"column of data set {name!r}", column, rows.column_names))
    return "\n\n".join(str(row) for row in rows[column] if row)


def _first_line(error: Exception) -> str:
    lines = str(error).strip().splitlines()
    return lines[0].rstrip(".") if lines else type(error).__name__


def _tokens(path: Path) -> Tensor:
    """int64 ``[tokens]`` or ``[rows, tokens]`` from a file with one integer tensor."""
    try:
        tensor = _read_tensor(path)
    except (OSError, ValueError, RuntimeError, EOFError, pickle.UnpicklingError) as error:
        raise DataError(f"{path} cannot be read as a tensor: {_first_line(error)}.") from error
    integer = not tensor.dtype.is_floating_point and not tensor.dtype.is_complex
    if not integer or tensor.dtype == torch.bool or tensor.dim() not in (1, 2):
        raise DataError(
            f"{path} holds {tensor.dtype} of shape {list(tensor.shape)}; token ids must be "
            "integers of shape [tokens] or [rows, tokens]."
        )
    return tensor.to(torch.int64)


def _read_tensor(path: Path) -> Tensor:
    if path.suffix == ".npy":
        return torch.from_numpy(np.load(path, allow_pickle=False))
    if path.suffix == ".pt":
        loaded = torch.load(path, map_location="cpu", weights_only=True)
        if not isinstance(loaded, Tensor):
            raise ValueError(f"it holds a {type(loaded).__name__}, not one tensor")
        return loaded
    from safetensors import SafetensorError
    from safetensors.torch import load_file
    try:
        parts = load_file(path)
    except SafetensorError as error:
        raise ValueError(str(error)) from error
    if len(parts) != 1:
        raise ValueError(f"it holds {len(parts)} tensors, not one")
    return next(iter(parts.values()))
