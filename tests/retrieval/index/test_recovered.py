"""What a recovery brings back of a damaged index."""

from __future__ import annotations

import random
import shutil
from pathlib import Path

import pytest

from gossamer.core import StoreError
from gossamer.retrieval.index import IndexConfig, SparseIndex, recover_folder, segment_file
from tests.retrieval.index.model import Model, check_all, random_row


@pytest.fixture
def made(tmp_path: Path) -> tuple[Path, Model]:
    """Three segments, batches that wait, deletions and payloads."""
    rng = random.Random(8)
    folder = tmp_path / "index"
    model: Model = {f"d{i}": (random_row(rng), {"n": i}) for i in range(50)}
    config = IndexConfig(pending_documents=15, background=False)
    with SparseIndex.build([], ids=[], folder=folder, config=config) as index:
        for first in range(0, 50, 8):
            ids = [f"d{i}" for i in range(first, min(first + 8, 50))]
            index.add([model[one][0] for one in ids], ids, [model[one][1] for one in ids])
        index.delete(["d3", "d20", "d49"])
        for one in ("d3", "d20", "d49"):
            del model[one]
    return folder, model


def flip(path: Path, at: int) -> None:
    data = bytearray(path.read_bytes())
    data[at] ^= 4
    path.write_bytes(data)


def recovered(folder: Path, target: Path) -> tuple[SparseIndex, tuple[str, ...]]:
    told = recover_folder(folder, target)
    index = SparseIndex.load(target)
    assert index.check().sound
    assert len(index) == told.documents
    return index, told.problems


def test_a_sound_index_comes_back_whole(made: tuple[Path, Model], tmp_path: Path) -> None:
    index, problems = recovered(made[0], tmp_path / "new")
    assert not problems
    check_all(index, made[1], random.Random(0), every=True)
    index.close()


def test_postings_are_made_anew_and_lost_rows_are_named(
    made: tuple[Path, Model], tmp_path: Path,
) -> None:
    folder, model = made
    first, second, *_ = sorted(folder.glob("*.segment"))
    at = {entry["name"]: entry["offset"]
          for entry in segment_file.table(first.read_bytes(), "first")}
    flip(first, at["postings"])
    index, problems = recovered(folder, tmp_path / "new")
    assert problems == (f"postings of {first.name} were made anew.",)
    check_all(index, model, random.Random(0), every=True)
    index.close()
    at = {entry["name"]: entry["offset"]
          for entry in segment_file.table(second.read_bytes(), "second")}
    flip(second, at["weights"])
    index, problems = recovered(folder, tmp_path / "newer")
    assert any(second.name in problem and "lost" in problem for problem in problems)
    assert 20 < len(index) < len(model)
    left = {one: model[one] for one in index.ids()}
    check_all(index, left, random.Random(0), every=True)
    index.close()


def test_without_a_catalogue_the_segments_come_back(
    made: tuple[Path, Model], tmp_path: Path,
) -> None:
    folder, model = made
    (folder / "catalogue.db").write_bytes(b"nothing of use" * 100)
    index, problems = recovered(folder, tmp_path / "new")
    assert problems
    assert set(index.ids()) >= {f"d{i}" for i in range(3)}
    one = index.ids()[0]
    assert index.search([model[one][0]], k=50, exact=True).ids[0]
    index.close()
    (folder / "catalogue.db").unlink()
    index, problems = recovered(folder, tmp_path / "newer")
    assert any("missing" in problem for problem in problems)
    index.close()


def test_any_flip_in_the_catalogue_can_be_recovered_from(
    made: tuple[Path, Model], tmp_path: Path,
) -> None:
    folder, model = made
    path, rng = folder / "catalogue.db", random.Random(4)
    whole = path.read_bytes()
    for step in range(20):
        path.write_bytes(whole)
        flip(path, rng.randrange(len(whole)))
        target = tmp_path / f"new{step}"
        index, problems = recovered(folder, target)
        if not problems:
            check_all(index, model, rng, every=True)
        for one in set(index.ids()) & set(model):
            row = model[one][0]
            assert index.explain(dict.fromkeys(range(12), 1.0), one).score == sum(row.values())
        index.close()
        shutil.rmtree(target)


def test_what_cannot_be_recovered_is_said(tmp_path: Path, made: tuple[Path, Model]) -> None:
    with pytest.raises(StoreError, match="is not a folder"):
        recover_folder(tmp_path / "no", tmp_path / "new")
    with pytest.raises(StoreError, match="already holds"):
        recover_folder(made[0], made[0])
