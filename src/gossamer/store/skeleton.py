"""A transformers model without its weights, as a saved folder describes it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from torch import nn

from gossamer.models.meta import empty_model, model_class, need_transformers, read_config


def skeleton(folder: Path, name: str | None = None) -> nn.Module:
    """The model that a folder's config.json describes, in eval mode, weights on meta.

    Args:
        folder: holds config.json and perhaps generation_config.json.
        name: of the class in transformers; None takes the configuration's.

    Raises:
        StoreError: no configuration.
        UnsupportedError: a class that transformers does not have.
        NeedsError: transformers is not installed.
    """
    config = read_config(folder)
    if getattr(config, "quantization_config", None) is not None:
        del config.quantization_config  # what it describes is read here, not by transformers
    cls = model_class(config, name)
    model: Any = empty_model(cls, config)
    if (folder / "generation_config.json").is_file() and cls.can_generate():
        from transformers import GenerationConfig
        model.generation_config = GenerationConfig.from_pretrained(folder, local_files_only=True)
    built: nn.Module = model
    return built


@contextmanager
def quiet() -> Iterator[None]:
    """No progress bar of transformers inside."""
    need_transformers()
    from transformers import utils
    logging: Any = utils.logging
    shown = logging.is_progress_bar_enabled()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        if shown:
            logging.enable_progress_bar()
