"""The examples in docstrings run and print what they say."""

from __future__ import annotations

import doctest
import importlib
import pkgutil

import pytest

import gossamer


def modules() -> list[str]:
    """Every Python module of the package."""
    found = pkgutil.walk_packages(gossamer.__path__, "gossamer.")
    return [info.name for info in found if ".native._" not in info.name]


@pytest.mark.parametrize("module", modules())
def test_examples(module: str) -> None:
    found = doctest.testmod(importlib.import_module(module), optionflags=doctest.ELLIPSIS)
    assert found.failed == 0
