"""Atomic files: a reader sees the old file or the whole new one, never a part of it."""

from __future__ import annotations

import errno
import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from gossamer.core.errors import StoreError


@contextmanager
def replacing(path: str | os.PathLike[str]) -> Iterator[Path]:
    """Yield a temporary path beside ``path``; on success it is flushed and renamed onto it.

    On any exception, and on a kill, the old file stays as it was.
    """
    target = Path(path)
    temporary = target.parent / f".{target.name}.{secrets.token_hex(6)}.part"
    with explained(target):
        # Not tempfile's: it makes files that only their owner may read.
        os.close(os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o666))
    try:
        with explained(target):
            yield temporary
            with open(temporary, "rb") as file:
                os.fsync(file.fileno())
            os.replace(temporary, target)
            flush_folder(target.parent)
    finally:
        temporary.unlink(missing_ok=True)


def write_text(path: str | os.PathLike[str], text: str) -> None:
    """Write a UTF-8 text file atomically."""
    with replacing(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def flush_folder(folder: Path) -> None:
    """Make renames inside the folder durable, where the system can."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    except OSError as error:  # some file systems refuse to sync a folder
        if error.errno not in (errno.EINVAL, errno.ENOTSUP):
            raise
    finally:
        os.close(handle)


@contextmanager
def explained(path: Path) -> Iterator[None]:
    """Turn the operating system's refusals into one sentence."""
    try:
        yield
    except OSError as error:
        reasons = {
            errno.ENOSPC: "there is no space left on the disk; free some or choose another folder",
            errno.EDQUOT: "the disk quota is used up; free some or choose another folder",
            errno.EACCES: "permission is denied; choose a folder that you may write to",
            errno.EROFS: "the file system is read-only; choose another folder",
        }
        if not path.parent.is_dir():
            reasons[errno.ENOENT] = "the folder does not exist; create it first"
        if error.errno in reasons:
            raise StoreError(f"Cannot write {path}: {reasons[error.errno]}.") from error
        raise
