"""Connections to SQLite: durable, and with errors in one sentence."""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import quote

from gossamer.core import GossamerError, StoreError

_WAIT_S = 30.0


def connect(path: Path | None, *, writable: bool) -> sqlite3.Connection:
    """A connection; ``path`` None is a database in memory.

    Raises:
        StoreError: it cannot be opened.
    """
    name = "the index" if path is None else str(path)
    with explained_sql(name):
        if path is None:
            return sqlite3.connect(":memory:", isolation_level=None, check_same_thread=False)
        mode = "rwc" if writable else "ro"
        # Without a log there is nothing to share, and a folder that may not be written to has no
        # place for the memory that SQLite shares between processes.
        if not writable and not os.access(path.parent, os.W_OK):
            mode += "&immutable=1"
        connection = sqlite3.connect(
            f"file:{quote(str(path.absolute()))}?mode={mode}", uri=True, timeout=_WAIT_S,
            isolation_level=None, check_same_thread=False)
        try:
            if writable:
                connection.execute("PRAGMA journal_mode = WAL")
                connection.execute("PRAGMA synchronous = FULL")
                connection.execute("PRAGMA wal_autocheckpoint = 4000")
                connection.execute("PRAGMA journal_size_limit = 67108864")
            connection.execute("SELECT count(*) FROM sqlite_master")
        except sqlite3.Error:
            connection.close()
            raise
    return connection


@contextmanager
def explained_sql(name: str) -> Iterator[None]:
    """Turn SQLite's errors into one sentence."""
    try:
        yield
    except sqlite3.ProgrammingError as error:
        if "closed" not in str(error):
            raise
        raise StoreError("The index is closed.") from error
    except sqlite3.OperationalError as error:
        text = str(error)
        if "full" in text or "disk I/O" in text:
            why = "there is no space left on the disk, or it fails; free some and try again"
        elif "locked" in text or "busy" in text:
            why = "another process keeps it locked; try again"
        elif "unable to open" in text or "readonly" in text:
            why = "it cannot be opened; check the folder and its permissions"
        else:
            why = f"{text}; check it, and restore it from a copy or recover it"
        raise StoreError(f"Cannot use {name}: {why}.") from error
    except sqlite3.Error as error:
        raise StoreError(
            f"{name} is damaged: {error}; restore it from a copy or recover the index."
        ) from error


@contextmanager
def readable(name: str) -> Iterator[None]:
    """Turn values that make no sense into one sentence."""
    try:
        yield
    except GossamerError:
        raise
    except (ValueError, KeyError, TypeError) as error:
        raise StoreError(
            f"{name} is damaged: a row cannot be read; restore it from a copy or recover the index."
        ) from error
