"""The lock that lets one process at a time write to an index."""

from __future__ import annotations

import errno
import importlib
import os
from pathlib import Path

from gossamer.core import StoreError, UnsupportedError
from gossamer.core.atomic import explained

NAME = "writer.lock"


class WriterLock:
    """Held until `release`, or until the process ends in whatever way.

    Raises:
        StoreError: another writer holds it.
        UnsupportedError: the system has no such locks.
    """

    def __init__(self, folder: Path) -> None:
        try:
            self._locks = importlib.import_module("fcntl")
        except ModuleNotFoundError:
            raise UnsupportedError(
                "Writing to an index in a folder takes file locks of POSIX, which this system does "
                "not have; build it elsewhere and load it for reading."
            ) from None
        with explained(folder / NAME):
            self._file: int | None = os.open(folder / NAME, os.O_RDWR | os.O_CREAT, 0o666)
        try:
            self._locks.flock(self._file, self._locks.LOCK_EX | self._locks.LOCK_NB)
        except OSError as error:
            self.release()
            if error.errno not in (errno.EACCES, errno.EAGAIN):
                raise
            raise StoreError(
                f"Another writer has {folder} open: close it first, or load the index for reading."
            ) from None

    def release(self) -> None:
        """Let another writer in."""
        if self._file is not None:
            os.close(self._file)
            self._file = None
