"""Atomic files: the old one or the whole new one, whatever happens in between."""

from __future__ import annotations

import errno
import os
import signal
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from gossamer.core import StoreError
from gossamer.core.atomic import replacing, write_text


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_a_file_is_replaced_as_a_whole(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    write_text(path, "old")
    with replacing(path) as temporary:
        temporary.write_text("new")
        assert path.read_text() == "old"
    assert path.read_text() == "new"
    assert names(tmp_path) == ["a.txt"]


def test_an_error_leaves_the_old_file(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    write_text(path, "old")

    def fail() -> None:
        with replacing(path) as temporary:
            temporary.write_text("half")
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fail()
    assert path.read_text() == "old"
    assert names(tmp_path) == ["a.txt"]


def test_a_kill_leaves_the_old_file(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    write_text(path, "old")
    code = (
        "import sys, time\nfrom gossamer.core.atomic import replacing\n"
        "with replacing(sys.argv[1]) as temporary:\n"
        "    temporary.write_text('half')\n    print('ready', flush=True)\n    time.sleep(60)\n"
    )
    writer = subprocess.Popen([sys.executable, "-c", code, str(path)], stdout=subprocess.PIPE)
    assert writer.stdout is not None
    assert writer.stdout.readline() == b"ready\n"
    writer.send_signal(signal.SIGKILL)
    writer.wait(30)
    writer.stdout.close()
    assert path.read_text() == "old"
    write_text(path, "new")
    assert path.read_text() == "new"


def test_others_may_read_what_the_umask_lets_them(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    before = os.umask(0o027)
    try:
        write_text(path, "x")
    finally:
        os.umask(before)
    assert stat.S_IMODE(path.stat().st_mode) == 0o640


@pytest.mark.parametrize(("number", "reason"), [
    (errno.ENOSPC, "no space left"), (errno.EDQUOT, "quota"), (errno.EACCES, "permission"),
    (errno.EROFS, "read-only"),
])
def test_refusals_are_explained(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int, reason: str
) -> None:
    def refuse(*_: object) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(os, "fsync", refuse)
    with pytest.raises(StoreError, match=reason):
        write_text(tmp_path / "a.txt", "x")
    assert names(tmp_path) == []


def test_a_missing_folder_is_named_but_not_another_missing_file(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match="folder does not exist"):
        write_text(tmp_path / "none" / "a.txt", "x")

    def copy() -> None:
        with replacing(tmp_path / "a.txt") as temporary:
            temporary.write_bytes((tmp_path / "source").read_bytes())

    with pytest.raises(FileNotFoundError, match="source"):
        copy()
