"""gossamer: sparse machine learning in PyTorch.

Importing it loads `core` and `cards` alone; every other room loads on first touch.
"""

from __future__ import annotations

import importlib
from importlib.metadata import PackageNotFoundError, version
from typing import Any

from gossamer import cards, core

try:
    __version__ = version("gossamer")
except PackageNotFoundError:  # a source tree that was never installed
    __version__ = "0+source"

_ROOMS = {
    "data", "edit", "evidence", "jobs", "layout", "measure", "models", "observe", "ops",
    "planted", "prune", "retrieval", "store", "testing",
}
_NAMES = {
    "sites": "gossamer.core", "blocks": "gossamer.core", "select": "gossamer.core",
    "load": "gossamer.store", "save": "gossamer.store", "inspect": "gossamer.store",
    "pack": "gossamer.jobs",
}

__all__ = ["__version__", "cards", "core"]


def __getattr__(name: str) -> Any:
    if name in _ROOMS:
        return importlib.import_module(f"gossamer.{name}")
    if name in _NAMES:
        return getattr(importlib.import_module(_NAMES[name]), name)
    raise AttributeError(f"module 'gossamer' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted([*__all__, *_ROOMS, *_NAMES])
