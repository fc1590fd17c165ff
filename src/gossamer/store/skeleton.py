"""A transformers model without its weights: parameters on the meta device, buffers real."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import nn
from torch.nn.modules.module import register_module_parameter_registration_hook

from gossamer.core import NeedsError, StoreError


def require_transformers(folder: Path) -> Any:
    """The transformers package, or NeedsError with the extra to install."""
    try:
        import transformers
    except ImportError as error:
        raise NeedsError(
            f"{folder} holds a Hugging Face model; install the extra that reads it: "
            'pip install "gossamer[lm]".'
        ) from error
    return transformers


def skeleton(folder: Path, model_class: str | None = None) -> nn.Module:
    """The model that a folder's config.json describes, in eval mode, weights on meta.

    Args:
        folder: holds config.json and perhaps generation_config.json.
        model_class: name of the class in transformers; None takes the configuration's.

    Raises:
        StoreError: no configuration, or a class that transformers does not have.
        NeedsError: transformers is not installed.
    """
    transformers = require_transformers(folder)
    config = read_config(folder)
    if getattr(config, "quantization_config", None) is not None:
        del config.quantization_config  # what it describes is read here, not by transformers
    cls = model_type(folder, config, model_class)
    dtype = getattr(config, "dtype", None)
    with _default_dtype(dtype), _meta_parameters():
        model: nn.Module = cls(config)
    if (folder / "generation_config.json").is_file() and cls.can_generate():
        model.generation_config = transformers.GenerationConfig.from_pretrained(
            folder, local_files_only=True
        )
    return model.eval()


def read_config(folder: Path) -> Any:
    """The Hugging Face configuration of a folder."""
    transformers = require_transformers(folder)
    if not (folder / "config.json").is_file():
        raise StoreError(f"{folder} has no config.json, so it is not a Hugging Face model folder.")
    try:
        return transformers.AutoConfig.from_pretrained(folder, local_files_only=True)
    except (ValueError, KeyError, OSError) as error:
        raise StoreError(f"{folder}/config.json cannot be used: {error}") from error


def model_type(folder: Path, config: Any, model_class: str | None) -> Any:
    """The class in transformers that a configuration names."""
    transformers = require_transformers(folder)
    name = model_class or (getattr(config, "architectures", None) or [""])[0]
    cls = getattr(transformers, name, None) if name else None
    if cls is None:
        raise StoreError(
            f"{folder}/config.json names the class {name!r}, which transformers "
            f"{transformers.__version__} does not have; models with code of their own are not "
            "supported."
        )
    return cls


@contextmanager
def quiet(folder: Path) -> Iterator[None]:
    """No progress bar of transformers inside."""
    logging = require_transformers(folder).utils.logging
    shown = logging.is_progress_bar_enabled()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        if shown:
            logging.enable_progress_bar()


@contextmanager
def _default_dtype(dtype: torch.dtype | None) -> Iterator[None]:
    # Buffers that a model computes when built take the default dtype, as in from_pretrained.
    before = torch.get_default_dtype()
    torch.set_default_dtype(dtype if isinstance(dtype, torch.dtype) else before)
    try:
        yield
    finally:
        torch.set_default_dtype(before)


@contextmanager
def _meta_parameters() -> Iterator[None]:
    """Every parameter that is registered inside goes to the meta device at once."""

    def to_meta(module: nn.Module, name: str, parameter: Any) -> Any:
        if parameter is None or parameter.device.type == "meta":
            return None
        return nn.Parameter(parameter.to("meta"), requires_grad=parameter.requires_grad)

    handle = register_module_parameter_registration_hook(to_meta)
    try:
        yield
    finally:
        handle.remove()
