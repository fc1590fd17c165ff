"""SHA-256 of files, and the check of a file against its record."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path

from gossamer.core import StoreError

CHUNK = 1 << 20


@dataclass(frozen=True)
class FileRecord:
    """What one file of a saved folder must look like.

    Args:
        size: bytes.
        sha256: of the whole file, in hex.
        header: SHA-256 of the length field and header alone, for a safetensors file.
    """

    size: int
    sha256: str
    header: str | None = None


def file_record(path: Path) -> FileRecord:
    """Size and SHA-256 of a file as it is on disk now."""
    digest = hashlib.sha256()
    size = 0
    with path.open("rb") as stream:
        while chunk := stream.read(CHUNK):
            digest.update(chunk)
            size += len(chunk)
    return FileRecord(size, digest.hexdigest())


def check_size(path: Path, record: FileRecord) -> None:
    """Raise StoreError where the file is missing or its size is not the recorded one."""
    if not path.is_file():
        raise StoreError(f"{path} is missing, so the folder is incomplete; save or copy it again.")
    size = path.stat().st_size
    if size != record.size:
        raise StoreError(
            f"{path} has {size} bytes instead of {record.size}: it was cut short or changed; "
            "save or copy the folder again."
        )


def check_file(path: Path, record: FileRecord) -> None:
    """Raise StoreError where size or content is not what was saved."""
    check_size(path, record)
    try:
        found = file_record(path)
    except OSError as error:
        raise StoreError(f"Cannot read {path}: {error.strerror}.") from error
    if found.sha256 != record.sha256:
        raise damaged(path)


def damaged(path: Path) -> StoreError:
    """The error for a file whose content does not match its checksum."""
    return StoreError(
        f"{path} does not match its SHA-256 checksum: it was changed or damaged after saving; "
        "save or copy the folder again."
    )
