"""load: a model and its tokenizer from a short name, a path or a hub."""

from __future__ import annotations

import difflib
import importlib
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch import nn

from gossamer.core.errors import ConfigError, StoreError, UnsupportedError, unknown
from gossamer.models.gguf_file import open_gguf
from gossamer.models.gguf_llama import gguf_llama
from gossamer.models.gguf_tokenizer import gguf_tokenizer
from gossamer.models.meta import model_class, need_transformers, read_config
from gossamer.models.packaged import FOLDERS, PACKAGED, fetch, fetch_folder
from gossamer.models.shards import open_shards

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

_TOKENIZER_FILES = ("tokenizer.json", "tokenizer_config.json", "vocab.json", "vocab.txt",
                    "tokenizer.model")
_SHORT = (*PACKAGED, *FOLDERS)


@dataclass(frozen=True)
class Loaded:
    """A model ready to use.

    Args:
        model: in evaluation mode, on the CPU.
        tokenizer: None where the source has none, as for image models.
        name: the short name, the folder's name or the hub id.
        source: the package and version, the path, or the hub address it came from.
    """

    model: nn.Module
    tokenizer: PreTrainedTokenizerBase | None
    name: str
    source: str


def load(name: str | Path, dtype: torch.dtype = torch.float32) -> Loaded:
    """A model with its weights and tokenizer, from wherever the name points.

    Args:
        name: ``smollm2`` (a decoder of 135 million parameters), ``minilm`` (an encoder of
            sentences, 23 million) or ``splade-tiny`` (of sparse vectors, 4 million), all carried
            by Python packages; a folder that transformers or gossamer saved; a ``.gguf`` file of
            the llama architecture; or the id of a model on the Hugging Face hub.
        dtype: of the parameters; a folder that gossamer packed keeps its own.

    Raises:
        StoreError: nothing there, a damaged file, or a hub that cannot be reached.
        UnsupportedError: a model type or file layout that is not known.
        ConfigError: a misspelt short name, or a dtype that is not floating point.
        NeedsError: transformers or gguf is absent.
    """
    if not isinstance(dtype, torch.dtype) or not dtype.is_floating_point:
        raise ConfigError(f"dtype must be a floating point torch dtype, not {dtype!r}.")
    need_transformers()
    text = str(name)
    if text in PACKAGED and not isinstance(name, Path):
        item = PACKAGED[text]
        return _from_gguf(fetch(item), dtype, text, f"{item.package}=={item.version}")
    if text in FOLDERS and not isinstance(name, Path):
        first = FOLDERS[text][0]
        return _from_folder(fetch_folder(FOLDERS[text]), dtype, text,
                            f"{first.package}=={first.version}")
    path = Path(text).expanduser()
    if path.is_file():
        return _from_gguf(path, dtype, path.stem, str(path))
    if path.is_dir():
        return _from_folder(path, dtype, path.resolve().name, str(path))
    check_hub_name(name)
    return _from_folder(_download(text), dtype, text, f"hub:{text}")


def check_hub_name(name: str | Path) -> None:
    """Raise where a name that is no file or folder cannot be meant as the id of a hub's model."""
    text = str(name)
    if isinstance(name, Path) or text.startswith((".", "/", "~")) or text.count("/") > 1:
        raise StoreError(f"There is no file or folder {text}.")
    if "/" not in text and difflib.get_close_matches(text, _SHORT, n=1, cutoff=0.6):
        raise ConfigError(unknown("model", text, _SHORT))


def load_tokenizer(folder: str | Path) -> PreTrainedTokenizerBase | None:
    """The tokenizer in a model folder, or None where there is none.

    Raises:
        StoreError: its files are damaged.
    """
    need_transformers()
    from transformers import AutoTokenizer
    folder = Path(folder)
    if not any((folder / file).is_file() for file in _TOKENIZER_FILES):
        return None
    try:
        tokenizer: PreTrainedTokenizerBase = AutoTokenizer.from_pretrained(folder)
    except (OSError, ValueError, KeyError, ImportError) as error:
        raise StoreError(f"The tokenizer in {folder} cannot be read: {_first(error)}.") from error
    return tokenizer


def _from_gguf(path: Path, dtype: torch.dtype, name: str, source: str) -> Loaded:
    file = open_gguf(path)
    model = gguf_llama(file, dtype)
    beside = path.parent / "tokenizer.json"
    tokenizer = load_tokenizer(path.parent) if beside.is_file() else gguf_tokenizer(file)
    return Loaded(model, tokenizer, name, source)


def _from_folder(folder: Path, dtype: torch.dtype, name: str, source: str) -> Loaded:
    if (folder / "gossamer.json").is_file():
        # The store stands above this room; it is called only where a folder is its own.
        model: nn.Module = importlib.import_module("gossamer.store").load(folder)
    else:
        model = _pretrained(folder, dtype)
    return Loaded(model.eval(), load_tokenizer(folder), name, source)


def _pretrained(folder: Path, dtype: torch.dtype) -> nn.Module:
    cls = model_class(read_config(folder))
    if not any(folder.glob("pytorch_model*.bin")):
        open_shards(folder)  # says which file is torn or missing
    try:
        model, info = cls.from_pretrained(folder, dtype=dtype, output_loading_info=True)
    except (OSError, ValueError, RuntimeError) as error:
        raise StoreError(f"{folder} cannot be loaded: {_first(error)}.") from error
    if lost := sorted(info["missing_keys"]):
        raise UnsupportedError(
            f"{folder} does not give {', '.join(lost[:3])} ({len(lost)} missing) of "
            f"{cls.__name__}; its config.json names another class than its weights."
        )
    loaded: nn.Module = model
    return loaded


def _download(name: str) -> Path:
    """The local copy of a model on the hub."""
    from huggingface_hub import snapshot_download
    try:
        folder = snapshot_download(
            name, allow_patterns=["*.json", "*.safetensors", "*.txt", "*.model", "*.jinja"],
            ignore_patterns=["original/*", "onnx/*", "consolidated*"],
        )
    except (OSError, ValueError) as error:
        raise StoreError(
            f"{name!r} is no file or folder, none of {', '.join(_SHORT)}, and cannot be had "
            f"from the Hugging Face hub ({_first(error)}): give a local folder, or set HF_HOME "
            "to a cache that holds it, or HF_TOKEN for a gated model."
        ) from error
    return Path(folder)


def _first(error: BaseException) -> str:
    lines = str(error).strip().splitlines()
    return lines[0].rstrip(".") if lines else type(error).__name__
