"""A folder that appears complete or not at all."""

from __future__ import annotations

import errno
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from safetensors import SafetensorError

from gossamer.core import StoreError
from gossamer.core.atomic import explained, flush_folder
from gossamer.store.manifest import owned_files


@contextmanager
def new_folder(folder: Path, *, overwrite: bool) -> Iterator[Path]:
    """Give a temporary sibling folder to fill, which takes the name ``folder`` on success.

    Everything is flushed to the disk before the rename. On any error, Ctrl-C included, the
    temporary folder is removed and ``folder`` stays as it was.

    Raises:
        StoreError: the target holds something else, or the disk refuses a write.
    """
    target = Path(os.path.realpath(folder))
    check_target(target, overwrite)
    done = False
    temporary: Path | None = None
    try:
        with explained(target):
            target.parent.mkdir(parents=True, exist_ok=True)
            temporary = Path(tempfile.mkdtemp(prefix=f".{target.name}.tmp-", dir=target.parent))
            with _system_errors():
                yield temporary
            _flush(temporary)
            _put_in_place(temporary, target)
            done = True
    except OSError as error:
        raise StoreError(f"Cannot write {target}: {error}.") from error
    finally:
        if temporary is not None and not done:
            shutil.rmtree(temporary, ignore_errors=True)


def check_target(target: Path, overwrite: bool) -> None:
    """Raise StoreError unless ``target`` is free, empty, or a saved model that may be replaced."""
    if not target.exists():
        return
    if not target.is_dir():
        raise StoreError(f"{target} is a file; choose the name of a folder.")
    present = {p.relative_to(target).as_posix() for p in target.rglob("*") if not p.is_dir()}
    if not present:
        return
    owned = owned_files(target)
    if owned is None:
        raise StoreError(
            f"{target} already holds {_some(present)} and is not a folder that gossamer wrote; "
            "choose another folder."
        )
    if not overwrite:
        raise StoreError(
            f"{target} already holds a saved model; choose another folder or pass overwrite=True."
        )
    if present - owned:
        raise StoreError(
            f"{target} also holds {_some(present - owned)}, which overwriting would delete; "
            "move that away or choose another folder."
        )


def interrupted(folder: Path) -> str:
    """A hint at a complete earlier model that an interrupted overwrite left beside ``folder``."""
    target = Path(os.path.realpath(folder))
    if not target.parent.is_dir():
        return ""
    left = sorted(target.parent.glob(f".{target.name}.old-*"))
    return f" An interrupted overwrite left the earlier model in {left[-1]}." if left else ""


@contextmanager
def _system_errors() -> Iterator[None]:
    """The safetensors library, through which transformers writes, has errors of its own."""
    try:
        yield
    except SafetensorError as error:
        full = "No space left" in str(error)
        raise OSError(errno.ENOSPC if full else errno.EIO, str(error)) from error


def _put_in_place(temporary: Path, target: Path) -> None:
    temporary.chmod(0o777 & ~_umask())
    aside: Path | None = None
    moved = False
    try:
        if target.exists() and any(target.iterdir()):
            aside = target.with_name(temporary.name.replace(".tmp-", ".old-"))
            os.replace(target, aside)
        os.replace(temporary, target)
        moved = True
        flush_folder(target.parent)
    finally:
        if aside is not None and moved:
            shutil.rmtree(aside, ignore_errors=True)
        elif aside is not None and aside.exists():
            os.replace(aside, target)


def _umask() -> int:
    # The only portable way to read the mask is to set it; mkdtemp makes folders private.
    current = os.umask(0o077)
    os.umask(current)
    return current


def _flush(folder: Path) -> None:
    for path in sorted(folder.rglob("*")):
        if path.is_dir():
            flush_folder(path)
        else:
            with path.open("rb") as stream:
                os.fsync(stream.fileno())
    flush_folder(folder)


def _some(names: set[str]) -> str:
    first = sorted(names)[:3]
    more = f" and {len(names) - 3} more" if len(names) > 3 else ""
    return ", ".join(first) + more
