"""The real default model, loaded once for the tests of this room."""

from __future__ import annotations

import pytest

from gossamer.core import StoreError
from gossamer.models import Loaded, load


@pytest.fixture(scope="session")
def smollm2() -> Loaded:
    """SmolLM2 in float32; tests must leave it as it is."""
    try:
        return load("smollm2")
    except StoreError as error:
        pytest.skip(f"the packaged model cannot be had here: {error}")
