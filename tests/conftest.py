"""Shared set-up of the suite: threads, seeds, and the folder of real test data."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
import torch
from hypothesis import settings

CHECKOUT = Path(__file__).resolve().parents[1]
DATA = Path(os.environ.get("GOSSAMER_DATA", CHECKOUT.parent / "shared" / "data"))


def pytest_configure() -> None:
    """Threads follow OMP_NUM_THREADS, and one is enough for the small matrices of the suite."""
    torch.set_num_threads(int(os.environ.get("OMP_NUM_THREADS", "1")))
    # A deadline is an assertion about time, and a busy machine breaks it.
    settings.register_profile("suite", deadline=None)
    settings.load_profile("suite")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Tests marked ``gpu`` are skipped where there is none."""
    if torch.cuda.is_available():
        return
    skip = pytest.mark.skip(reason="needs a CUDA device")
    for item in items:
        if "gpu" in item.keywords:
            item.add_marker(skip)


@pytest.fixture(autouse=True)
def seed() -> int:
    """The seed that torch was set to before the test."""
    torch.manual_seed(0)
    return 0


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """Folder of real data sets (GOSSAMER_DATA); the test is skipped where it is absent."""
    if not DATA.is_dir():
        pytest.skip(f"no test data at {DATA}; set GOSSAMER_DATA")
    return DATA


@pytest.fixture
def checkout() -> Path:
    """Root of the source tree that the test file lies in."""
    return CHECKOUT
