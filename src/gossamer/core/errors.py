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
    options = {option.lower(): option for option in sorted(known)}
    near = difflib.get_close_matches(name.lower(), options, n=1, cutoff=0.5)
    if near:
        return f"Unknown {what} {name!r}: did you mean {options[near[0]]!r}?"
    return f"Unknown {what} {name!r}: choose one of {', '.join(options.values())}."
