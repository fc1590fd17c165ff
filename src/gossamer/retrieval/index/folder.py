"""Folders of indexes: created whole, opened by one writer or by readers, copied as they are."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from gossamer import __version__
from gossamer.core import ConfigError, StoreError
from gossamer.retrieval.index import catalogue as catalogues
from gossamer.retrieval.index.catalogue import Catalogue, Contents
from gossamer.retrieval.index.config import IndexConfig
from gossamer.retrieval.index.lock import WriterLock
from gossamer.retrieval.index.part import Part
from gossamer.retrieval.index.segment_file import read, write
from gossamer.retrieval.index.stored import orphans, part_arrays, parts_of, path_of
from gossamer.store.atomic import new_folder

# A writer may merge a segment away between the catalogue and the opening of its file.
_ATTEMPTS = 20


@dataclass(frozen=True, eq=False)
class Opened:
    """What opening a folder gives.

    Args:
        catalogue: open.
        contents: of it, as the parts show them.
        config: settings of the index.
        parts: not all of them sorted yet.
        lock: of the writer; None for a reader.
    """

    catalogue: Catalogue
    contents: Contents
    config: IndexConfig
    parts: list[Part]
    lock: WriterLock | None


def create(folder: Path | None, config: IndexConfig) -> Catalogue:
    """An empty catalogue, in a folder that exists or in memory."""
    made = Catalogue(None if folder is None else folder / catalogues.NAME, writable=True)
    made.create(asdict(config), __version__)
    return made


@contextmanager
def fresh(folder: Path) -> Iterator[Path]:
    """A temporary folder beside ``folder``, which takes its name on success.

    Raises:
        StoreError: the folder holds something already, or the disk refuses a write.
    """
    if (folder / catalogues.NAME).exists():
        raise StoreError(f"{folder} already holds an index; choose another folder or load it.")
    with new_folder(folder, overwrite=False) as temporary:
        yield temporary


def open_writer(folder: Path, *, mapped: bool, verify: bool) -> Opened:
    """Open for writing, and remove what an interrupted write left.

    Raises:
        StoreError: another writer is at work, there is no index, or it is damaged.
    """
    _must_be_index(folder)
    lock = WriterLock(folder)
    done = False
    catalogue: Catalogue | None = None
    try:
        catalogue = Catalogue(folder / catalogues.NAME, writable=True)
        contents = catalogue.read()
        parts = parts_of(contents, folder, {}, mapped=mapped, verify=verify)
        for path in orphans(folder, {number for number, _ in contents.segments}):
            path.unlink(missing_ok=True)
        opened = Opened(catalogue, contents, config_of(contents), parts, lock)
        done = True
        return opened
    except FileNotFoundError as error:
        raise _missing(error) from None
    finally:
        if not done:
            if catalogue is not None:
                catalogue.close()
            lock.release()


def open_reader(folder: Path, *, mapped: bool, verify: bool) -> Opened:
    """Open for reading, while others may write.

    Raises:
        StoreError: there is no index, or it is damaged.
    """
    _must_be_index(folder)
    catalogue = Catalogue(folder / catalogues.NAME, writable=False)
    done = False
    try:
        contents, parts = read_parts(catalogue, folder, {}, mapped=mapped, verify=verify)
        opened = Opened(catalogue, contents, config_of(contents), parts, None)
        done = True
        return opened
    finally:
        if not done:
            catalogue.close()


def read_parts(
    catalogue: Catalogue, folder: Path, known: Mapping[int, Part], *, mapped: bool, verify: bool,
) -> tuple[Contents, list[Part]]:
    """What the catalogue holds now, and its parts."""
    missing: FileNotFoundError | None = None
    for _ in range(_ATTEMPTS):
        contents = catalogue.read()
        try:
            return contents, parts_of(contents, folder, known, mapped=mapped, verify=verify)
        except FileNotFoundError as error:
            missing = error
            if catalogue.generation() == contents.state.generation:
                break
    raise _missing(missing)


def copy(catalogue: Catalogue, folder: Path, target: Path) -> None:
    """Write the index as it is now into a new folder, which appears complete or not at all."""
    with fresh(target) as temporary:
        for attempt in range(_ATTEMPTS):
            catalogue.copy(temporary / catalogues.NAME)
            contents = _copied(temporary)
            try:
                for number, _ in contents.segments:
                    _copy_file(path_of(folder, number), path_of(temporary, number))
                return
            except FileNotFoundError as error:
                if attempt == _ATTEMPTS - 1:
                    raise _missing(error) from None
                for path in temporary.iterdir():
                    path.unlink()


def write_parts(catalogue: Catalogue, parts: list[Part], target: Path) -> None:
    """Write an index that lies in memory into a new folder; no batch may be waiting."""
    with fresh(target) as temporary:
        catalogue.copy(temporary / catalogues.NAME)
        _copied(temporary)
        for part in parts:
            number = np.array([part.source], np.int64)
            write(path_of(temporary, part.source), {**part_arrays(part), "number": number})


def config_of(contents: Contents) -> IndexConfig:
    """Settings that a catalogue holds.

    Raises:
        StoreError: they are not settings.
    """
    try:
        return IndexConfig(**contents.config)
    except (TypeError, ConfigError) as error:
        raise StoreError(f"The settings of the index cannot be read: {error}") from error


def _copied(folder: Path) -> Contents:
    copied = Catalogue(folder / catalogues.NAME, writable=True)
    try:
        return copied.read()
    finally:
        copied.close()


def _copy_file(source: Path, target: Path) -> None:
    shutil.copyfile(source, target)
    read(target)


def _must_be_index(folder: Path) -> None:
    if not (folder / catalogues.NAME).is_file():
        raise StoreError(f"{folder} is not an index: it has no {catalogues.NAME}.")


def _missing(error: FileNotFoundError | None) -> StoreError:
    name = os.fspath(error.filename) if error is not None and error.filename else "A segment"
    return StoreError(f"{name} is missing; restore it from a copy or recover the index.")


def plain(folder: Any) -> Path:
    """A folder as a path."""
    return Path(os.path.realpath(folder))
