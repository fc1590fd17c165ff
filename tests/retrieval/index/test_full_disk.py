"""A disk without room refuses a write in one sentence, and what was acknowledged stays."""

from __future__ import annotations

import errno
import os
import random
from pathlib import Path

import pytest

from gossamer.core import StoreError
from gossamer.retrieval.index import IndexConfig, SparseIndex
from tests.retrieval.index.model import Model, check_all, random_row

CONFIG = IndexConfig(pending_documents=20, background=False)


def full(descriptor: int) -> None:
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def some(rng: random.Random, ids: range) -> Model:
    return {i: (random_row(rng), "x" * 300) for i in ids}


def add(index: SparseIndex, new: Model) -> None:
    index.add([row for row, _ in new.values()], list(new), [text for _, text in new.values()])


def test_a_full_catalogue(tmp_path: Path) -> None:
    rng = random.Random(1)
    index = SparseIndex.build([], folder=tmp_path / "index", config=CONFIG)
    model = some(rng, range(15))
    add(index, model)
    pages = index._catalogue._connection.execute("PRAGMA page_count").fetchone()[0]
    index._catalogue._connection.execute(f"PRAGMA max_page_count = {pages}")
    told = ""
    for first in range(100, 200, 4):
        new = some(rng, range(first, first + 4))
        try:
            add(index, new)
        except StoreError as error:
            told = str(error)
            break
        model.update(new)
    assert "no space left" in told
    check_all(index, model, rng, every=True)
    index._catalogue._connection.execute("PRAGMA max_page_count = 100000")
    add(index, more := some(rng, range(500, 510)))
    model.update(more)
    check_all(index, model, rng, every=True)
    index.close()
    with SparseIndex.load(tmp_path / "index") as again:
        check_all(again, model, rng, every=True)
        assert again.check().sound


def test_no_room_for_a_segment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    rng = random.Random(2)
    index = SparseIndex.build([], folder=tmp_path / "index", config=CONFIG)
    model = some(rng, range(15))
    add(index, model)
    with monkeypatch.context() as patch:
        patch.setattr("gossamer.core.atomic.os.fsync", full)
        new = some(rng, range(20, 30))
        add(index, new)  # durable in the catalogue, though no segment can be written
        model.update(new)
        assert "no space left" in index.stats()["trouble"]
        check_all(index, model, rng, every=True)
        with pytest.raises(StoreError, match="no space left"):
            index.merge()
        with pytest.raises(StoreError, match="no space left"):
            add(index, some(rng, range(100, 140)))  # so many go into a segment at once
        with pytest.raises(StoreError, match="no space left"):
            index.save(tmp_path / "copy")
    check_all(index, model, rng, every=True)
    assert not (tmp_path / "copy").exists()
    index.merge()
    assert index.stats()["waiting"] == 0
    index.close()
    with SparseIndex.load(tmp_path / "index", writable=True) as again:
        assert again.stats()["trouble"] is None
        check_all(again, model, rng, every=True)
    assert not list((tmp_path / "index").glob(".*"))
    assert len(list((tmp_path / "index").glob("*.segment"))) == 1


def test_a_merge_that_fails_changes_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
) -> None:
    rng = random.Random(3)
    index = SparseIndex.build([], folder=tmp_path / "index", config=CONFIG)
    model: Model = {}
    for first in (0, 100, 200):
        new = some(rng, range(first, first + 25))
        add(index, new)
        model.update(new)
    with monkeypatch.context() as patch:
        patch.setattr("gossamer.core.atomic.os.fsync", full)
        with pytest.raises(StoreError, match="no space left"):
            index.merge()
    assert index.stats()["segments"] == 3
    index.delete([1, 101])
    del model[1], model[101]
    index.merge()
    check_all(index, model, rng, every=True)
    index.close()
