"""A process that is killed at a random moment loses nothing that it had acknowledged."""

from __future__ import annotations

import os
import pickle
import random
import shutil
import signal
import struct
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from gossamer.core import StoreError
from gossamer.retrieval.index import IndexConfig, SparseIndex
from tests.retrieval.index.model import Model, check_all, random_row

CONFIG = IndexConfig(pending_documents=6, merge_segments=2, merge_deleted=0.2)
Step = tuple[str, list[Any], list[Any]]


def make_step(rng: random.Random, model: Model) -> Step:
    """Something to do: add, update, delete, merge or save."""
    kind = rng.choice(["add"] * 5 + ["update", "update", "delete", "delete", "merge", "save"])
    if kind == "add":
        first = max(model, default=0) + 1
        ids = list(range(first, first + rng.choice([1, 2, 5, 9])))
    else:
        ids = rng.sample(sorted(model), min(len(model), rng.randint(0, 4)))
    return kind, ids, [random_row(rng) for _ in ids]


def apply(step: Step, model: Model) -> Model:
    """The model after a step."""
    kind, ids, rows = step
    if kind in ("add", "update"):
        return {**model, **{one: (row, f"p{one} {row}") for one, row in zip(ids, rows)}}
    return {one: value for one, value in model.items() if kind != "delete" or one not in set(ids)}


def perform(step: Step, index: SparseIndex, root: Path) -> None:
    """Do it to an index."""
    kind, ids, rows = step
    payloads = [f"p{one} {row}" for one, row in zip(ids, rows)]
    if kind == "add":
        index.add(rows, ids, payloads)
    elif kind == "update":
        index.update(rows, ids, payloads)
    elif kind == "delete":
        index.delete(ids)
    elif kind == "merge":
        index.merge()
    else:
        index.save(root / f"copy{random.getrandbits(60):x}")


def work(root: Path, model: Model, seed: int, pipe: int) -> None:
    """Change the index for ever; say what is to be done before, and that it was after."""
    rng = random.Random(seed)
    index = SparseIndex.load(root / "index", writable=True)
    while True:
        step = make_step(rng, model)
        data = pickle.dumps(step)
        os.write(pipe, struct.pack("<cI", b"?", len(data)) + data)
        perform(step, index, root)
        os.write(pipe, struct.pack("<cI", b"!", 0))
        model = apply(step, model)


def said(data: bytes) -> Iterator[tuple[bytes, bytes]]:
    """What a killed process wrote to its pipe, as far as it is whole."""
    at = 0
    while at + 5 <= len(data):
        kind, length = struct.unpack_from("<cI", data, at)
        if at + 5 + length > len(data):
            return
        yield kind, data[at + 5:at + 5 + length]
        at += 5 + length


def killed(root: Path, model: Model, seed: int, after_s: float) -> bytes:
    """Let a process work on the index, kill it, and return what it said."""
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(reading)
        try:
            work(root, model, seed, writing)
        finally:
            os._exit(7)  # only an error gets here
    os.close(writing)
    time.sleep(after_s)
    os.kill(child, signal.SIGKILL)
    with os.fdopen(reading, "rb") as file:
        data = file.read()
    assert os.WIFSIGNALED(os.waitpid(child, 0)[1]), "the process failed by itself"
    return data


def check_copies(root: Path) -> None:
    """A copy is there as a whole or not at all."""
    for path in root.glob("copy*"):
        with SparseIndex.load(path) as copy:
            assert copy.check().sound
        shutil.rmtree(path)


def survives(root: Path, times: int) -> None:
    """Kill so often, and compare each time with what had been acknowledged."""
    rng = random.Random(times)
    model: Model = {}
    SparseIndex.build([], folder=root / "index", config=CONFIG).close()
    acknowledged = 0
    for seed in range(times):
        pending: Step | None = None
        for kind, data in said(killed(root, model, seed, rng.uniform(0.01, 0.15))):
            if kind == b"?":
                pending = pickle.loads(data)
            elif pending is not None:
                model, pending, acknowledged = apply(pending, model), None, acknowledged + 1
        index = SparseIndex.load(root / "index", writable=True)
        after = model if pending is None else apply(pending, model)
        model = after if sorted(index.ids()) == sorted(after) and _same(index, after) else model
        check_all(index, model, rng, every=True)
        index.close()
        report = index.check()
        assert report.sound, report.problems
        assert not list((root / "index").glob(".*"))
        check_copies(root)
    assert acknowledged > times


def _same(index: SparseIndex, model: Model) -> bool:
    return all(index.payload(one) == payload for one, (_, payload) in model.items())


@pytest.mark.parametrize("times", [20, pytest.param(200, marks=pytest.mark.slow)])
def test_killed_at_random_points(tmp_path: Path, times: int) -> None:
    survives(tmp_path, times)


def test_a_build_that_is_killed_leaves_no_index(tmp_path: Path) -> None:
    child = os.fork()
    if child == 0:
        def rows() -> Iterator[Any]:
            while True:
                yield [random_row(random)]  # type: ignore[arg-type]
        try:
            SparseIndex.build(rows(), folder=tmp_path / "index", config=CONFIG)
        finally:
            os._exit(7)
    time.sleep(0.3)
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    with pytest.raises(StoreError, match="not an index"):
        SparseIndex.load(tmp_path / "index")
