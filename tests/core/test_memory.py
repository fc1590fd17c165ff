"""Peak memory: what is allocated inside is seen, also after it is freed."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from gossamer.core import memory
from gossamer.core.memory import PeakMemory, resident

SIZE = 64 * 2**20


def fill() -> None:
    block = torch.ones(SIZE, dtype=torch.uint8)
    block += 1


def test_a_peak_is_seen_after_it_has_passed() -> None:
    with PeakMemory() as peak:
        fill()
    assert 0.9 * SIZE < peak.bytes < 3 * SIZE


def test_nothing_allocated_is_nothing_seen() -> None:
    kept = torch.ones(SIZE, dtype=torch.uint8)
    with PeakMemory() as peak:
        kept.fill_(2)
    assert peak.bytes < SIZE / 2


def test_without_the_kernels_mark_samples_are_taken(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(memory, "_CLEAR", tmp_path / "no" / "clear_refs")
    with PeakMemory() as peak:
        block = torch.ones(SIZE, dtype=torch.uint8)
    assert len(block) == SIZE
    assert peak.bytes > 0.9 * SIZE


def test_the_resident_set_is_a_sensible_number() -> None:
    assert 2**25 < resident() < 2**40
