"""A flipped bit or a torn end never gives a wrong answer: it is found, or it changed nothing."""

from __future__ import annotations

import random
import shutil
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from gossamer.core import GossamerError, StoreError
from gossamer.retrieval.index import IndexConfig, SparseIndex, check_folder, segment_file
from tests.retrieval.index.model import Model, check_all, random_row


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Model]:
    """An index with two segments, waiting batches, deleted documents and payloads."""
    rng = random.Random(5)
    folder = tmp_path_factory.mktemp("damage") / "index"
    model: Model = {f"d{i}": (random_row(rng), f"text {i}") for i in range(40)}
    config = IndexConfig(pending_documents=12, background=False)
    with SparseIndex.build([], ids=[], folder=folder, config=config) as index:
        for first in range(0, 40, 10):
            ids = [f"d{i}" for i in range(first, first + 10)]
            index.add([model[one][0] for one in ids], ids, [model[one][1] for one in ids])
        for one in ("d1", "d15", "d39"):
            index.delete([one])
            del model[one]
        index.add([{1: 1.0}], ids=["last"], payloads=["x"])
        model["last"] = ({1: 1.0}, "x")
        stats = index.stats()
        assert stats["segments"] == 2
        assert stats["waiting"] > 0
    return folder, model


def files(folder: Path) -> list[Path]:
    return sorted(path for path in folder.iterdir() if path.stat().st_size)


def is_safe(folder: Path, model: Model) -> bool:
    """True where the damage was found; otherwise everything must be as it was."""
    try:
        index = SparseIndex.load(folder)
    except StoreError:
        return True
    with index:
        if not index.check().sound:
            return True
        check_all(index, model, random.Random(0), every=True)
        return False


def test_bits_flipped_anywhere(made: tuple[Path, Model], tmp_path: Path) -> None:
    folder, model = made
    rng = random.Random(11)
    copy = tmp_path / "copy"
    shutil.copytree(folder, copy)
    for path in files(folder):
        whole = path.read_bytes()
        found = 0
        for _ in range(60):
            data = bytearray(whole)
            data[rng.randrange(len(data))] ^= 1 << rng.randrange(8)
            (copy / path.name).write_bytes(data)
            found += is_safe(copy, model)
        if path.suffix == ".segment":
            assert found == 60, "every bit of a segment counts"
        (copy / path.name).write_bytes(whole)
    assert not is_safe(copy, model)


def test_torn_anywhere(made: tuple[Path, Model], tmp_path: Path) -> None:
    folder, model = made
    rng = random.Random(12)
    copy = tmp_path / "copy"
    shutil.copytree(folder, copy)
    for path in files(folder):
        whole = path.read_bytes()
        for size in [0, 1, len(whole) - 1, *(rng.randrange(len(whole)) for _ in range(20))]:
            (copy / path.name).write_bytes(whole[:size])
            assert is_safe(copy, model)
            assert not check_folder(copy).sound
        (copy / path.name).write_bytes(whole + b"\0" * 64)
        assert is_safe(copy, model) or path.suffix == ".db"
        (copy / path.name).unlink()
        with pytest.raises(StoreError):
            SparseIndex.load(copy)
        (copy / path.name).write_bytes(whole)


def test_without_checksums_a_flip_is_safe_though_it_may_be_wrong(
    made: tuple[Path, Model], tmp_path: Path,
) -> None:
    folder, _ = made
    rng = random.Random(13)
    copy = tmp_path / "copy"
    shutil.copytree(folder, copy)
    path = next(path for path in files(copy) if path.suffix == ".segment")
    whole = path.read_bytes()
    for _ in range(100):
        data = bytearray(whole)
        data[rng.randrange(len(data))] ^= 1 << rng.randrange(8)
        path.write_bytes(data)
        try:
            with SparseIndex.load(copy, verify=False) as index:
                index.search([random_row(rng)], k=50, exact=True)
                index.search([random_row(rng)], k=50, budget=30)
                assert not index.check().sound
        except (GossamerError, UnicodeDecodeError):
            continue


def test_files_of_two_segments_are_not_exchanged(made: tuple[Path, Model], tmp_path: Path) -> None:
    copy = tmp_path / "copy"
    shutil.copytree(made[0], copy)
    first, second = (path for path in files(copy) if path.suffix == ".segment")
    data = first.read_bytes()
    first.write_bytes(second.read_bytes())
    second.write_bytes(data)
    with pytest.raises(StoreError, match="another segment"):
        SparseIndex.load(copy)


def test_a_damaged_index_is_not_copied(made: tuple[Path, Model], tmp_path: Path) -> None:
    copy = tmp_path / "copy"
    shutil.copytree(made[0], copy)
    with SparseIndex.load(copy) as index:
        path = next(path for path in files(copy) if path.suffix == ".segment")
        data = bytearray(path.read_bytes())
        data[len(data) // 2] ^= 1
        path.unlink()
        path.write_bytes(data)
        with pytest.raises(StoreError, match="damaged"):
            index.save(tmp_path / "saved")
    assert not (tmp_path / "saved").exists()


KINDS = st.sampled_from([np.uint8, np.uint16, np.uint32, np.int64, np.float16, np.float32])


@given(arrays=st.dictionaries(
    st.text(max_size=8), KINDS.flatmap(lambda kind: hnp.arrays(
        kind, hnp.array_shapes(min_dims=1, max_dims=2, min_side=0, max_side=9))), max_size=4),
    flips=st.lists(st.tuples(st.integers(0, 10**6), st.integers(0, 7)), min_size=1, max_size=3))
def test_files_hold_any_arrays(
    arrays: dict[str, np.ndarray], flips: list[tuple[int, int]],
) -> None:
    data = b"".join(segment_file.encode(arrays))
    read = segment_file.decode(data, "here")
    assert list(read) == list(arrays)
    for name, array in arrays.items():
        assert read[name].dtype == array.dtype
        assert read[name].shape == array.shape
        assert read[name].tobytes() == array.tobytes()
    flipped = bytearray(data)
    for at, bit in flips:
        flipped[at % len(data)] ^= 1 << bit
    if flipped != data:
        with pytest.raises(StoreError):
            segment_file.decode(bytes(flipped), "here")


def test_a_newer_version_says_what_to_install(made: tuple[Path, Model], tmp_path: Path) -> None:
    import json
    import sqlite3

    from gossamer.retrieval.index.catalogue import checksum
    copy = tmp_path / "copy"
    shutil.copytree(made[0], copy)
    sql = sqlite3.connect(copy / "catalogue.db")
    body = json.dumps({"format": 99, "install": "7.1.0"})
    sql.execute("UPDATE meta SET body = ?, crc = ? WHERE name = 'format'",
                (body, checksum("format", body)))
    sql.commit()
    sql.close()
    with pytest.raises(StoreError, match=r"install gossamer 7\.1\.0 or newer"):
        SparseIndex.load(copy)
    shutil.copy(made[0] / "catalogue.db", copy)
    path = next(path for path in files(copy) if path.suffix == ".segment")
    data = bytearray(path.read_bytes())
    data[8] = 9
    path.write_bytes(data)
    with pytest.raises(StoreError, match="version 9"):
        SparseIndex.load(copy)


def test_a_damaged_log_is_an_earlier_state(tmp_path: Path) -> None:
    """SQLite takes the sound beginning of a log: whole changes, and none after a lost one."""
    rng = random.Random(3)
    folder, copy = tmp_path / "index", tmp_path / "copy"
    states: list[Model] = [{}]
    config = IndexConfig(pending_documents=100, background=False)
    with SparseIndex.build([], folder=folder, config=config) as index:
        for step in range(8):
            row = random_row(rng)
            index.add([row], [step], [f"p{step}"])
            states.append({**states[-1], step: (row, f"p{step}")})
        shutil.copytree(folder, copy)
    log = copy / "catalogue.db-wal"
    whole, database = log.read_bytes(), (copy / "catalogue.db").read_bytes()
    for _ in range(25):
        for path in copy.glob("catalogue.db*"):
            path.unlink()
        (copy / "catalogue.db").write_bytes(database)
        data = bytearray(whole)
        data[rng.randrange(len(data))] ^= 1 << rng.randrange(8)
        log.write_bytes(data)
        try:
            found = SparseIndex.load(copy, writable=True)
        except StoreError:
            continue
        with found:
            check_all(found, states[len(found)], rng, every=True)
