"""A save that is killed leaves the old model, the new one, or something that is refused."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def outcomes(tmp_path_factory: pytest.TempPathFactory) -> dict[str, dict[str, int]]:
    """How often each outcome came, by scenario; the script asserts what each must be."""
    run = subprocess.run(
        [sys.executable, "-m", "tests.faults.killed_save", str(tmp_path_factory.mktemp("kills"))],
        capture_output=True, text=True, cwd=ROOT, check=False,
    )
    assert run.returncode == 0, run.stderr[-3000:]
    found: dict[str, Any] = json.loads(run.stdout.splitlines()[-1])
    return found


def test_a_new_folder_is_complete_or_refused(outcomes: dict[str, dict[str, int]]) -> None:
    for name in ("own, fresh", "transformers, fresh, dense"):
        assert set(outcomes[name]) == {"refused", "new"}
        assert sum(outcomes[name].values()) > 15


def test_an_overwrite_never_loses_the_earlier_model(outcomes: dict[str, dict[str, int]]) -> None:
    found = outcomes["own, overwrite"]
    assert found["old"] > 10
    assert found["new"] > 1
    # Between the two renames the name is free for a moment; the old model stands beside it.
    assert found["refused"] <= 4


def test_kills_at_random_times(outcomes: dict[str, dict[str, int]]) -> None:
    assert sum(outcomes["random times"].values()) == 8
