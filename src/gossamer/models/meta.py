"""Hugging Face model classes built without memory for their parameters."""

from __future__ import annotations

import importlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import nn
from torch.nn.modules.module import register_module_parameter_registration_hook

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
        config: PreTrainedConfig = AutoConfig.from_pretrained(
            folder, local_files_only=True)
    except OSError as error:
        raise StoreError(f"{file} cannot be parsed: {error}") from error
    except (KeyError, ValueError) as error:
        lines = str(error).splitlines()
        raise UnsupportedError(f"{file} cannot be used: {lines[0]}") from error
    return config


def model_class(config: PreTrainedConfig, name: str | None = None) -> Any:
    """The class of that name in transformers; None takes the one that the configuration names,
    else the causal, masked or bare model of its type.

    Raises:
        UnsupportedError: transformers has no class for it.
    """
    import transformers
    if name is not None:
        found = getattr(transformers, name, None)
        if not isinstance(found, type) or not issubclass(found, transformers.PreTrainedModel):
            raise UnsupportedError(
                f"transformers {transformers.__version__} has no model {name!r}; models with code "
                "of their own are not supported."
            )
        return found
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
    """A model in evaluation mode, its parameters on the meta device and its buffers real.

    Persistent buffers that a checkpoint holds are still to be filled from it.
    """
    dtype = getattr(config, "dtype", None)
    with _default_dtype(dtype if isinstance(dtype, torch.dtype) else None), _meta_parameters():
        model = cls(config)
    return model.eval()


@contextmanager
def _default_dtype(dtype: torch.dtype | None) -> Iterator[None]:
    # Buffers that a model computes when built take the default dtype, as in from_pretrained.
    before = torch.get_default_dtype()
    torch.set_default_dtype(dtype or before)
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


def owners(model: nn.Module) -> dict[str, tuple[nn.Module, str]]:
    """Every parameter name, tied ones included, with the module and attribute that hold it."""
    return {
        f"{path}.{name}" if path else name: (module, name)
        for path, module in model.named_modules(remove_duplicate=False)
        for name, parameter in module._parameters.items() if parameter is not None
    }
