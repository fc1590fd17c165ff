"""A full disk, a write error or Ctrl-C in the middle: nothing is left that looks complete."""

from __future__ import annotations

import contextlib
import errno
import os
import shutil
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from gossamer import store
from gossamer.core import StoreError
from gossamer.store.safetensor import FileWriter
from tests.store.pruned import mlp, prune, same, zoo


def failing(function: Callable[..., Any], at: int, error: BaseException) -> Callable[..., Any]:
    """The function, raising instead of its call number ``at``."""
    count = [0]

    def replacement(*args: Any, **options: Any) -> Any:
        count[0] += 1
        if count[0] == at:
            raise error
        return function(*args, **options)

    return replacement


PLACES = [(os, "fsync"), (os, "replace"), (Path, "open"), (Path, "write_bytes"),
          (FileWriter, "add"), (FileWriter, "finish"), (Path, "chmod"), (Path, "rename")]


def calls(place: tuple[Any, str], work: Callable[[], None]) -> int:
    """How often a piece of work calls a function."""
    owner, name = place
    kept = getattr(owner, name)
    count = [0]

    def counted(*args: Any, **options: Any) -> Any:
        count[0] += 1
        return kept(*args, **options)

    setattr(owner, name, counted)
    try:
        work()
    finally:
        setattr(owner, name, kept)
    return count[0]


@pytest.mark.parametrize("place", PLACES, ids=lambda p: p[1])
@pytest.mark.parametrize("error", [OSError(errno.ENOSPC, "No space left on device"),
                                   OSError(errno.EIO, "Input/output error"), KeyboardInterrupt()],
                         ids=["full", "broken", "ctrl-c"])
@pytest.mark.parametrize("overwrite", [False, True])
def test_every_call_may_fail(
    place: tuple[Any, str], error: BaseException, overwrite: bool, tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    old, new = mlp(1), mlp(2)
    store.save(old, tmp_path / "count")
    total = calls(place, lambda: store.save(new, tmp_path / "count", overwrite=True) and None)
    expected = KeyboardInterrupt if isinstance(error, KeyboardInterrupt) else StoreError
    for at in range(1, total + 1):
        folder = tmp_path / str(at) / "model"
        if overwrite:
            store.save(old, folder)
        monkeypatch.setattr(*place, failing(getattr(*place), at, error))
        with contextlib.suppress(expected):
            store.save(new, folder, overwrite=overwrite)
        monkeypatch.undo()
        left = sorted(p.name for p in folder.parent.iterdir()) if folder.parent.exists() else []
        assert left in ([], ["model"])
        loaded = loads(folder)
        if overwrite:
            assert loaded is not None
        assert loaded is None or same(loaded, new) or (overwrite and same(loaded, old))


def loads(folder: Path) -> nn.Module | None:
    """The model of a folder, None where it is refused."""
    try:
        return store.load(folder, into=mlp())
    except StoreError:
        return None


def test_the_sentence_for_a_full_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    full = OSError(errno.ENOSPC, "No space left on device")
    monkeypatch.setattr(os, "fsync", failing(os.fsync, 1, full))
    with pytest.raises(StoreError, match="no space left"):
        store.save(mlp(), tmp_path / "m")
    assert not any(tmp_path.iterdir())


def test_ctrl_c_while_tensors_come(tmp_path: Path) -> None:
    def items() -> Iterator[tuple[str, torch.Tensor]]:
        yield "0.weight", torch.ones(17, 24)
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        store.write_stream(tmp_path / "m", items(), store.about(mlp()))
    assert not any(tmp_path.iterdir())


@pytest.fixture
def tiny_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 256 KiB; skipped where mounting is not allowed."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mount = shutil.which("mount")
    command = [mount or "mount", "-t", "tmpfs", "-o", "size=256k", "tmpfs", str(folder)]
    if mount is None or subprocess.run(command, capture_output=True, check=False).returncode:
        pytest.skip("cannot mount a small file system here")
    yield folder
    subprocess.run(["umount", str(folder)], check=True)


@pytest.mark.parametrize("layout", ["auto", "dense"])
def test_a_disk_that_is_really_full(layout: str, tiny_disk: Path) -> None:
    model, supports = zoo("llama")
    small = mlp()
    prune(small, "rows")
    store.save(small, tiny_disk / "small")
    big = type(model)(type(model.config)(**{**model.config.to_dict(), "vocab_size": 4000}))
    prune(big, "2:4")
    with pytest.raises(StoreError, match="no space left"):
        store.save(big, tiny_disk / "big", layout=layout)
    assert [p.name for p in tiny_disk.iterdir()] == ["small"]
    assert same(small, store.load(tiny_disk / "small", into=mlp()))
    assert supports


def test_a_folder_that_may_not_be_written(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(StoreError, match="Cannot write"):
        store.save(mlp(), tmp_path / "file" / "m")
