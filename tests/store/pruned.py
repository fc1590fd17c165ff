"""Small pruned models that the tests of this folder save."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from gossamer.core import Keep, Support, parse_pattern, select, sites
from gossamer.layout import unpack
from gossamer.ops import PackedLinear
from tests.zoo import ZOO, inputs


def prune(model: nn.Module, pattern: str = "2:4", density: float = 0.5) -> dict[str, Support]:
    """Keep the greatest weights of every site, in place; what was kept."""
    supports = {}
    for site in sites(model):
        chosen = select(site.view().abs().float(), parse_pattern(pattern), Keep.fraction(density))
        site.write(chosen.apply(site.view()))
        supports[site.name] = chosen
    return supports


def zoo(name: str, pattern: str = "2:4") -> tuple[nn.Module, dict[str, Support]]:
    """A tiny model of an architecture, pruned."""
    model = ZOO[name]()
    return model, prune(model, pattern)


def mlp(seed: int = 0, meta: bool = False) -> nn.Sequential:
    """Three Linear layers with odd widths, one of them without bias."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        with torch.device("meta" if meta else "cpu"):
            return nn.Sequential(
                nn.Linear(24, 17), nn.ReLU(), nn.Linear(17, 40, bias=False), nn.Linear(40, 3)
            )


def logits(name: str, model: nn.Module) -> Tensor:
    """What the model says to a fixed input."""
    with torch.inference_mode():
        found: Tensor = model(**inputs(name)).logits
    return found


def dense_tensors(model: nn.Module) -> dict[str, Tensor]:
    """The state dict with packed layers unpacked, every alias listed."""
    state = dict(model.state_dict())
    for path, module in model.named_modules(remove_duplicate=False):
        if isinstance(module, PackedLinear):
            for part in module.packed.parts:
                del state[f"{path}.{part}"]
            state[f"{path}.weight"] = unpack(module.packed)
    return state


def same(left: nn.Module, right: nn.Module) -> bool:
    """True where all tensors are bit-equal, packed or not."""
    one, two = dense_tensors(left), dense_tensors(right)
    return one.keys() == two.keys() and all(
        a.dtype == two[name].dtype and torch.equal(a, two[name]) for name, a in one.items()
    )


def manifest_of(folder: Path) -> dict[str, Any]:
    """gossamer.json as it stands in a folder."""
    found: dict[str, Any] = json.loads((folder / "gossamer.json").read_text())
    return found
