"""One row of the frontier: prune, save packed, load what was saved, and measure that."""

from __future__ import annotations

import copy
import gc
import math
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from gossamer import store
from gossamer.cards import get_card
from gossamer.jobs.inputs import PROMPT, Inputs
from gossamer.jobs.job import build_system
from gossamer.jobs.record import Layer, Record
from gossamer.jobs.target import Target
from gossamer.measure import (
    Point,
    decoder_takes,
    environment,
    generate_text,
    macs_per_token,
    model_bytes,
    token_losses,
)
from gossamer.ops import PackedLinear

DTYPE = torch.bfloat16  # of everything that is saved
_SAMPLE_TOKENS = 20

Progress = Callable[[float, str], None]
"""(share done, what is being done)"""


@dataclass(frozen=True)
class Ground:
    """What all rows share: the dense model with its texts, the tokens, and the seed."""

    inputs: Inputs
    tokens: Tensor
    windows: Tensor
    seed: int

    def data(self) -> dict[str, Any]:
        """The data of a point."""
        return {
            **self.inputs.about, "calibration_tokens": self.tokens.numel(),
            "evaluation_tokens": self.windows.shape[0] * (self.windows.shape[1] - 1),
            "window": self.windows.shape[1], "prompt": PROMPT,
        }


def dense_record(ground: Ground, progress: Progress) -> Record:
    """The model as it came, in float32."""
    model = ground.inputs.model
    system = _dense_system("dense-fp32", "dense fp32", "float32")
    return _measured(ground, model, system, model_bytes(model), progress)


def half_record(ground: Ground, folder: Path, progress: Progress) -> Record:
    """The same weights in bfloat16, saved as a plain folder; perplexity in float32 arithmetic."""
    store.save(ground.inputs.model, folder, layout="dense", dtype=DTYPE, overwrite=True)
    model = in_float32(store.load(folder))
    system = _dense_system("dense-bf16", "dense bf16", "bfloat16")
    return _measured(ground, model, system, disk_bytes(folder), progress)


def pruned_record(
    ground: Ground, id: str, target: Target, folder: Path, progress: Progress
) -> Record:
    """Prune a fresh copy with a system, save it packed, load the folder, measure it."""
    system, card = build_system(id, target), get_card(id)
    start = time.perf_counter()

    def report(done: int, total: int, text: str) -> None:
        progress(0.6 * done / max(1, total), text)

    result = system.run(copy.deepcopy(ground.inputs.model), ground.tokens if card.needs else None,
                        progress=report)
    seconds = time.perf_counter() - start
    progress(0.65, "saving")
    result.save(folder, layout=layout_choice(ground.inputs), dtype=DTYPE,
                tokenizer=ground.inputs.tokenizer, overwrite=True)
    layers = tuple(_layer(row) for row in result.report["sites"])
    config, density = result.report["config"], result.density
    del result
    gc.collect()
    model = store.load(folder)
    about = {
        "id": folder.name, "label": f"{_short(card.title)} {target.text}", "system": id,
        "title": _short(card.title), "target": target.text, "sparsity": target.words,
        "pattern": str(getattr(system, "pattern", "")), "density": density, "config": config,
    }
    record = _measured(ground, in_float32(model), about, disk_bytes(folder),
                       lambda share, text: progress(0.7 + 0.3 * share, text))
    cost = {**record.point.cost, "prune_seconds": seconds}
    return Record(replace(record.point, cost=cost), layers, record.sample)


def layout_choice(inputs: Inputs) -> str:
    """What pruned models are saved as: for the Decoder where it decodes the dense one."""
    return "decode" if decoder_takes(inputs.model) else "auto"


def in_float32(model: nn.Module) -> nn.Module:
    """The model with everything but its packed layers in float32, changed in place.

    Stored bfloat16 values are used exactly; only the arithmetic becomes float32, since half
    precision products of many rows are slow on most CPUs.
    """
    for module in model.modules():
        if isinstance(module, PackedLinear):
            continue
        for tensor in (*module.parameters(recurse=False), *module.buffers(recurse=False)):
            if tensor.is_floating_point():
                tensor.data = tensor.data.float()
    return model


def disk_bytes(folder: Path) -> int:
    """Bytes of the weight files of a saved model."""
    return sum(path.stat().st_size for path in folder.glob("*.safetensors"))


def _measured(
    ground: Ground, model: nn.Module, system: dict[str, Any], size: int, progress: Progress,
) -> Record:
    losses = token_losses(
        model, ground.windows, 1, lambda done, total, _: progress(0.9 * done / total, "perplexity"))
    nll = losses.double().flatten()
    error = float(nll.std() / math.sqrt(nll.numel())) if nll.numel() > 1 else 0.0
    perplexity = math.exp(float(nll.mean()))
    macs = macs_per_token(model)
    point = Point(
        system, {"perplexity": perplexity, "perplexity_error": perplexity * error},
        {"disk_bytes": float(size), "macs_per_token": float(macs.kept),
         "dense_macs_per_token": float(macs.dense)},
        environment(), (), ground.seed, ground.data(),
    )
    sample = generate_text(model, ground.inputs.tokenizer, PROMPT, _SAMPLE_TOKENS)
    return Record(point, (), sample, baseline=system["system"] == "dense")


def _dense_system(id: str, label: str, dtype: str) -> dict[str, Any]:
    return {"id": id, "label": label, "system": "dense", "title": "dense", "target": "",
            "density": 1.0, "config": {"dtype": dtype}}


def _layer(row: dict[str, Any]) -> Layer:
    return Layer(row["name"], row["density"], row.get("output_error"), row.get("weight_error"))


def _short(title: str) -> str:
    return title.removesuffix(" pruning")
