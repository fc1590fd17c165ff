"""About: what a saved folder says of its model besides the tensors."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import nn

from gossamer.core import Support
from gossamer.store.matrices import matrices, tied_names


@dataclass(frozen=True)
class About:
    """What to write beside the tensors; `about` makes it from a model.

    Args:
        model_class: name of the model's class.
        config: Hugging Face configuration object, or None for another module.
        generation_config: Hugging Face generation settings, or None.
        tokenizer: Hugging Face tokenizer or processor, or None.
        layout: the layout that was asked for.
        kinds: site name to linear, conv1d, expert or conv2d; names that are missing count as
            linear.
        patterns: site name to the pattern that is claimed for it.
        tied: ``{alias: name}`` of tensors that are shared and saved once.
        system: the system that made the model and its configuration, JSON-able.
        report: figures of the run that made it, JSON-able.
        dtype: dtype that all floating-point tensors are cast to; None keeps each its own.
        copies: files to copy into the folder as they are.
        extra: further keys of gossamer.json.
    """

    model_class: str
    config: Any = None
    generation_config: Any = None
    tokenizer: Any = None
    layout: str = "auto"
    kinds: Mapping[str, str] = field(default_factory=dict)
    patterns: Mapping[str, str] = field(default_factory=dict)
    tied: Mapping[str, str] = field(default_factory=dict)
    system: Mapping[str, Any] | None = None
    report: Mapping[str, Any] | None = None
    dtype: torch.dtype | None = None
    copies: tuple[Path, ...] = ()
    extra: Mapping[str, Any] = field(default_factory=dict)


def about(
    model: nn.Module,
    supports: Mapping[str, Support] | None = None,
    *,
    tokenizer: Any = None,
    system: Mapping[str, Any] | None = None,
    report: Mapping[str, Any] | None = None,
) -> About:
    """The About of a model, whose parameters may lie on the meta device.

    >>> about(nn.Sequential(nn.Linear(4, 8))).kinds
    {'0.weight': 'linear'}
    """
    config: Any = None
    if hasattr(getattr(model, "config", None), "save_pretrained"):
        config = copy.deepcopy(model.config)
        config.dtype = model.dtype
    return About(
        model_class=type(model).__name__,
        config=config,
        generation_config=getattr(model, "generation_config", None) if config else None,
        tokenizer=tokenizer,
        kinds={matrix.name: matrix.kind for matrix in matrices(model)},
        patterns={name: str(s.pattern) for name, s in (supports or {}).items()},
        tied=tied_names(model),
        system=system,
        report=report,
    )


def write_companions(folder: Path, about: About) -> None:
    """Write configuration, generation settings and tokenizer files into a folder."""
    for source in about.copies:
        (folder / source.name).write_bytes(source.read_bytes())
    if about.tokenizer is not None:
        about.tokenizer.save_pretrained(folder)
    if about.config is not None:
        config = copy.deepcopy(about.config)
        config.architectures = [about.model_class]
        if about.dtype is not None:
            config.dtype = about.dtype
        config.save_pretrained(folder)
    if about.generation_config is not None:
        about.generation_config.save_pretrained(folder)
