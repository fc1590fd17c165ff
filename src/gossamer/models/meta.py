"""Hugging Face model classes built without memory for their parameters."""

from __future__ import annotations

import importlib
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import nn

from gossamer.core.errors import NeedsError, StoreError, UnsupportedError

if TYPE_CHECKING:
    from transformers import PreTrainedConfig


def need_transformers() -> None:
    """Raise NeedsError where transformers (5 or later) is not installed."""
    try:
        found = importlib.import_module("transformers").__version__
    except ImportError as error:
        raise NeedsError(
            'Loading a language model needs transformers: pip install "gossamer[lm]".'
        ) from error
    if int(found.split(".")[0]) < 5:
        raise NeedsError(f"transformers {found} is too old; pip install 'transformers>=5.10'.")


def read_config(folder: Path) -> PreTrainedConfig:
    """The configuration in a Hugging Face folder.

    Raises:
        StoreError: config.json is missing or cannot be parsed.
        UnsupportedError: the installed transformers does not know the model type.
    """
    need_transformers()
    from transformers import AutoConfig
    file = folder / "config.json"
    if not file.is_file():
        raise StoreError(f"{folder} has no config.json, so it is no Hugging Face model folder.")
    try:
        config: PreTrainedConfig = AutoConfig.from_pretrained(folder)
    except OSError as error:
        raise StoreError(f"{file} cannot be parsed: {error}") from error
    except (KeyError, ValueError) as error:
        lines = str(error).splitlines()
        raise UnsupportedError(f"{file} cannot be used: {lines[0]}") from error
    return config


def model_class(config: PreTrainedConfig) -> Any:
    """The class that the configuration names, else the causal, masked or bare model of its type.

    Raises:
        UnsupportedError: transformers has no class for it.
    """
    import transformers
    for name in getattr(config, "architectures", None) or []:
        if hasattr(transformers, name):
            return getattr(transformers, name)
    # Encoders have a causal class too, which they are only where the configuration says so.
    language = [transformers.MODEL_FOR_MASKED_LM_MAPPING, transformers.MODEL_FOR_CAUSAL_LM_MAPPING]
    if getattr(config, "is_decoder", False):
        language.reverse()
    for known in (*language, transformers.MODEL_FOR_IMAGE_CLASSIFICATION_MAPPING,
                  transformers.MODEL_MAPPING):
        if type(config) in known:
            return known[type(config)]
    raise UnsupportedError(
        f"transformers has no model class for {config.model_type!r} ({config.architectures})."
    )


def empty_model(cls: Any, config: PreTrainedConfig) -> Any:
    """A model whose parameters are on the meta device and whose buffers are real.

    Persistent buffers that a checkpoint holds are still to be filled from it.

    Raises:
        UnsupportedError: the class does not recompute one of its buffers.
    """
    with torch.device("meta"):
        model = cls(config)
    for parameter in model.parameters():
        parameter._is_hf_initialized = True
    for owner in model.modules():
        for name, buffer in list(owner._buffers.items()):
            if buffer is not None:
                owner._buffers[name] = _unset(buffer)
    # transformers recomputes buffers (rotary frequencies, position ids) when it initialises.
    model.initialize_weights()
    skipped = [name for name, buffer in model.named_buffers() if _is_unset(buffer)]
    transient = {name for name, _ in model.named_non_persistent_buffers()}
    if left := sorted(transient.intersection(skipped)):
        raise UnsupportedError(
            f"{cls.__name__} does not recompute its buffer {left[0]}, so it cannot be opened "
            "without loading; use models.load."
        )
    return model.eval()


def _sentinel(dtype: torch.dtype) -> float | int | None:
    if dtype.is_floating_point:
        return float("nan")
    return None if dtype == torch.bool else torch.iinfo(dtype).max


def _unset(buffer: torch.Tensor) -> torch.Tensor:
    value = _sentinel(buffer.dtype)
    return torch.full(buffer.shape, False if value is None else value, dtype=buffer.dtype)


def _is_unset(buffer: torch.Tensor) -> bool:
    if buffer.dtype.is_floating_point:
        return bool(buffer.isnan().any())
    value = _sentinel(buffer.dtype)
    return value is not None and bool((buffer == value).any())


def owners(model: nn.Module) -> dict[str, tuple[nn.Module, str]]:
    """Every parameter name, tied ones included, with the module and attribute that hold it."""
    return {
        f"{path}.{name}" if path else name: (module, name)
        for path, module in model.named_modules(remove_duplicate=False)
        for name, parameter in module._parameters.items() if parameter is not None
    }
