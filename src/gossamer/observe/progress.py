"""What a walk tells while it runs."""

from __future__ import annotations

from collections.abc import Callable

Progress = Callable[[int, int, str], None]
"""Called with (steps done, steps in all, what is being done)."""


def silent(done: int, total: int, text: str) -> None:
    """A Progress that says nothing."""
