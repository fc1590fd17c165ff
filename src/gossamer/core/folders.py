"""Folders outside of the project that gossamer writes to."""

from __future__ import annotations

import os
from pathlib import Path


def cache_folder() -> Path:
    """Where files are kept: $GOSSAMER_CACHE, else gossamer/ in $XDG_CACHE_HOME or ~/.cache."""
    if own := os.environ.get("GOSSAMER_CACHE"):
        return Path(own).expanduser()
    base = os.environ.get("XDG_CACHE_HOME")
    return (Path(base) if base else Path.home() / ".cache") / "gossamer"
