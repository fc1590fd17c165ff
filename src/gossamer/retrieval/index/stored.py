"""Segments as files of a folder, and the parts that a catalogue speaks of."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gossamer.core import StoreError
from gossamer.layout.rows import Rows
from gossamer.ops.postings import Segment, build
from gossamer.ops.postings.segment import HEAD
from gossamer.retrieval.index.catalogue import Contents
from gossamer.retrieval.index.identifiers import Ids
from gossamer.retrieval.index.incoming import from_bytes
from gossamer.retrieval.index.part import Part, joined, waiting
from gossamer.retrieval.index.segment_file import read, write

ENDING = ".segment"
_NUMBER = "number"
_MOST_READY = 4


def path_of(folder: Path, number: int) -> Path:
    """The file of a segment."""
    return folder / f"{number:08d}{ENDING}"


def new_segment(folder: Path | None, number: int, rows: Rows, ids: Ids, weights: str) -> Part:
    """Documents as a segment: in a file that is durable on return, or in memory.

    Raises:
        StoreError: the disk refuses it.
    """
    segment = build(rows, weights=weights)
    part = Part(((number, rows.count),), True, ids, None, segment, None, rows.count)
    if folder is None:
        return part
    path = path_of(folder, number)
    write(path, {**part_arrays(part), _NUMBER: np.array([number], np.int64)})
    return _part(read(path, verify=False), number, str(path), checked=True)


def part_arrays(part: Part) -> dict[str, NDArray[Any]]:
    """What is stored of a part that has a segment."""
    segment = {} if part.segment is None else part.segment.arrays()
    plain = {name: array if array.dtype.names is None
             else np.ascontiguousarray(array).view(np.uint8).reshape(len(array), -1)
             for name, array in segment.items()}
    return {**plain, **part.ids.arrays()}


def open_segment(
    folder: Path, number: int, documents: int, *, mapped: bool = True, verify: bool = True,
) -> Part:
    """A segment from its file.

    Raises:
        FileNotFoundError: the file is gone.
        StoreError: it is damaged, or another segment's.
    """
    path = path_of(folder, number)
    part = _part(read(path, mapped=mapped, verify=verify), number, str(path), checked=False)
    if part.documents != documents:
        raise StoreError(f"{path} has {part.documents} documents instead of {documents}.")
    return part


def parts_of(
    contents: Contents, folder: Path, known: Mapping[int, Part], *, mapped: bool, verify: bool,
) -> list[Part]:
    """The parts that a catalogue names, with what was deleted from them.

    Args:
        contents: of the catalogue.
        folder: where the files are.
        known: segments that are open already, by number.
        mapped: memory-map files instead of reading them.
        verify: check every checksum of files that are opened.
    """
    parts = []
    for number, documents in contents.segments:
        part = known.get(number)
        if part is None:
            part = open_segment(folder, number, documents, mapped=mapped, verify=verify)
        whole = replace(part, alive=None, live=part.documents)
        parts.append(_without(whole, contents.deleted.get(number)))
    for number, body in contents.batches:
        rows, ids = from_bytes(body, f"batch {number}")
        parts.append(_without(waiting(number, rows, ids), contents.deleted.get(number)))
    return parts


def gathered(parts: Sequence[Part], weights: str) -> list[Part]:
    """The same documents, all with segments: waiting batches are put together by size.

    Those without a segment become one. Where there are four already, the last of them go into it as
    long as they are of at most twice its size: a document is sorted a few times only, however small
    the batches are, and a search meets a few of them only.
    """
    done = [part for part in parts if part.stored]
    held = [part for part in parts if not part.stored]
    ready = [part for part in held if part.segment is not None]
    fresh = [part for part in held if part.segment is None]
    count = sum(part.documents for part in fresh)
    full = bool(fresh) and len(ready) >= _MOST_READY
    while full and ready and (
            len(ready) >= _MOST_READY or ready[-1].documents <= 2 * count):
        fresh.insert(0, ready.pop())
        count += fresh[0].documents
    if fresh:
        whole = joined(fresh)
        ready.append(replace(whole, segment=build(whole.all_rows(), weights=weights)))
    return done + ready


def orphans(folder: Path, known: set[int]) -> list[Path]:
    """Files that an interrupted write left: segments without a number in use, temporary ones."""
    kept = {path_of(folder, number).name for number in known}
    left = [path for path in folder.glob(f"*{ENDING}") if path.name not in kept]
    return left + list(folder.glob(f".*{ENDING}.*.part"))


def _part(arrays: dict[str, NDArray[Any]], number: int, name: str, *, checked: bool) -> Part:
    if arrays.get(_NUMBER, np.zeros(1, np.int64)).tolist() != [number]:
        raise StoreError(f"{name} is the file of another segment; restore it from a copy.")
    try:
        names = Segment.__dataclass_fields__
        heads = arrays.get("heads")
        if heads is not None and heads.shape[1:] == (HEAD.itemsize,):
            arrays["heads"] = heads.view(HEAD).reshape(-1)
        segment = (Segment(**{key: arrays[key] for key in names}) if checked
                   else Segment.of(arrays))
        ids = Ids.read(arrays, segment.documents)
    except StoreError as error:
        raise StoreError(f"{name} is damaged: {error}") from error
    return Part(((number, len(ids)),), True, ids, None, segment, None, len(ids))


def _without(part: Part, rows: NDArray[np.uint32] | None) -> Part:
    if rows is None:
        return part
    gone = np.unique(rows).astype(np.int64)
    if len(gone) != len(rows) or int(gone[-1]) >= part.documents:
        raise StoreError("The catalogue deletes documents that a segment does not have; recover.")
    return part.delete(gone)
