"""Every error that gossamer raises on purpose: what is wrong, the value seen, what to do."""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class GossamerError(Exception):
    """Base of all errors raised on purpose; its text is one sentence meant for the user."""


class PatternError(GossamerError):
    """A sparsity pattern or budget that cannot be met."""


class SupportError(GossamerError):
    """A support that does not fit the tensor or the pattern it is used with."""


class NeedsError(GossamerError):
    """A part needs a statistic, a layer kind or an optional package that is not there."""


class UnsupportedError(GossamerError):
    """The model, site, dtype or device is one that this part does not handle."""


class StoreError(GossamerError):
    """A file or folder that is missing, torn, foreign, too new or cannot be written."""


class DataError(GossamerError):
    """Input data that is empty, too short, of the wrong type or not finite."""


class ConfigError(GossamerError, ValueError):
    """A configuration value outside its domain, or an unknown name."""


def unknown(what: str, name: str, known: Iterable[str]) -> str:
    """One sentence for an unknown name, with the nearest known one."""
    options = sorted(known)
    near = difflib.get_close_matches(name, options, n=1, cutoff=0.5)
    hint = f"did you mean {near[0]!r}?" if near else f"choose one of {', '.join(options)}."
    return f"Unknown {what} {name!r}: {hint}"
