"""outline: a model's structure without its weights, for questions that shapes answer."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import nn

from gossamer.core.errors import StoreError
from gossamer.models.load import check_hub_name, load
from gossamer.models.meta import model_class, need_transformers, read_config
from gossamer.models.packaged import FOLDERS, PACKAGED


def outline(name: str | Path) -> nn.Module:
    """The model of a configuration, with every parameter on the meta device where that is enough.

    Args:
        name: a folder with a ``config.json`` (weights are not looked for), the id of a model on
            the Hugging Face hub (its configuration alone is fetched), or anything else that
            `load` takes, which is loaded.

    Raises:
        StoreError: nothing there, or a configuration that cannot be parsed.
        UnsupportedError: a model type that is not known.
        NeedsError: transformers is absent.
    """
    need_transformers()
    path = Path(name).expanduser()
    if str(name) in (*PACKAGED, *FOLDERS) or path.is_file():
        return load(name).model
    if not path.is_dir():
        check_hub_name(name)
        path = _fetched(str(name))
    config = read_config(path)
    cls = model_class(config)
    with torch.device("meta"):
        model: nn.Module = cls(config)
    return model.eval()


def _fetched(name: str) -> Path:
    """The folder of a hub model's configuration."""
    from huggingface_hub import hf_hub_download
    try:
        return Path(hf_hub_download(name, "config.json")).parent
    except (OSError, ValueError) as error:
        first = (str(error).strip().splitlines() or [type(error).__name__])[0].rstrip(".")
        raise StoreError(
            f"{name!r} is no file or folder, and its configuration cannot be had from the Hugging "
            f"Face hub ({first}): give a local folder, or set HF_HOME to a cache that holds it."
        ) from error
