"""``gossamer export``: a language model as one ONNX file."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import torch
import tyro

from gossamer.cli.terminal import console, quiet_libraries
from gossamer.core.errors import UnsupportedError


def _arg(metavar: str, help: str) -> Any:
    return tyro.conf.arg(metavar=metavar, help=help)


@dataclass(frozen=True)
class Options:
    """Write a language model as ONNX, float32 with dense zeros, for onnxruntime and others.

    The file takes input_ids of any batch and length and gives logits, without a cache.
    """

    model: Annotated[
        tyro.conf.Positional[str], _arg("MODEL", "a model folder, packed or plain, or a hub id")
    ]
    out: Annotated[Path, _arg("FILE", "the ONNX file; weights over 1.5 GB lie beside it")]


def run(arguments: list[str]) -> int:
    """Load, export, and say where the file is."""
    options = tyro.cli(Options, args=arguments, prog="gossamer export")
    from gossamer import models, store

    quiet_libraries()
    model = models.load(options.model).model
    if getattr(model, "main_input_name", None) != "input_ids":
        raise UnsupportedError(
            f"{type(model).__name__} takes no input_ids; export it with store.export_onnx, which "
            "takes an example of its input."
        )
    example = {"input_ids": torch.arange(32).view(2, 16)}
    path = store.export_onnx(
        model, options.out, example, {"input_ids": {0: "batch", 1: "length"}})
    console().print(f"{path}: {path.stat().st_size / 1e6:.1f} MB", markup=False, soft_wrap=True)
    return 0
