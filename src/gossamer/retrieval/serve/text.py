"""JSON in and out: orjson where it is installed, else the standard library's."""

from __future__ import annotations

import importlib
import importlib.util
import json
from types import ModuleType
from typing import Any

from gossamer.core import DataError


def _orjson() -> ModuleType | None:
    if importlib.util.find_spec("orjson") is None:
        return None
    return importlib.import_module("orjson")


_FAST = _orjson()


def loads(data: bytes) -> Any:
    """The value that a body holds.

    Raises:
        DataError: it is no JSON.
    """
    try:
        return json.loads(data) if _FAST is None else _FAST.loads(data)
    except (ValueError, RecursionError) as error:
        raise DataError(f"The body is not JSON: {str(error).rstrip('.')}.") from None


def dumps(value: Any) -> bytes:
    """A value as bytes; what UTF-8 cannot hold is written with escapes."""
    if _FAST is not None:
        try:
            found: bytes = _FAST.dumps(value)
            return found
        except TypeError:  # a wide integer, or half of a surrogate pair
            return json.dumps(value).encode()
    return json.dumps(value, separators=(",", ":")).encode()
