"""Files of JSON lines, plain or gzip: read one at a time, written whole or not at all."""

from __future__ import annotations

import gzip
import json
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from gossamer.core import DataError, StoreError
from gossamer.core.atomic import replacing


def read_lines(path: Path) -> Iterator[tuple[str, dict[str, Any]]]:
    """Every line as an object, with words that say where it stands; empty lines are skipped.

    Raises:
        StoreError: there is no such file, or it is a damaged gzip file.
        DataError: a line is not a JSON object.
    """
    if not path.is_file():
        raise StoreError(f"There is no file {path}.")
    zipped = path.suffix == ".gz"
    try:
        with (gzip.open(path, "rb") if zipped else path.open("rb")) as file:
            for number, line in enumerate(file, 1):
                if line.strip():
                    yield f"{path.name} line {number}", _object(line, path, number)
    except (EOFError, gzip.BadGzipFile) as error:
        raise StoreError(f"{path} is damaged ({error}): fetch or write it again.") from error


def _object(line: bytes, path: Path, number: int) -> dict[str, Any]:
    try:
        found = json.loads(line)
    except (ValueError, RecursionError):
        raise DataError(
            f"{path.name} line {number} is not JSON: {line[:40].decode('utf-8', 'replace')!r}."
        ) from None
    if not isinstance(found, dict):
        raise DataError(f"{path.name} line {number} is {type(found).__name__}, not an object.")
    return found


def write_lines(path: Path, objects: Iterable[dict[str, Any]]) -> int:
    """Write one object a line, atomically; the number of lines."""
    count = 0
    with replacing(path) as part:
        zipped = path.suffix == ".gz"
        with gzip.open(part, "wt", encoding="utf-8") if zipped else part.open(
                "w", encoding="utf-8") as file:
            for item in objects:
                try:
                    text = json.dumps(item, ensure_ascii=False, separators=(",", ":"))
                except (TypeError, ValueError) as error:
                    raise DataError(f"A payload cannot be written as JSON: {error}.") from error
                file.write(text + "\n")
                count += 1
    return count

