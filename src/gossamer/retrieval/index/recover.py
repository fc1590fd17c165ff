"""Recovering: a new index of all that can still be read of a damaged one."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gossamer.core import ConfigError, StoreError
from gossamer.layout.rows import Rows
from gossamer.retrieval.index import catalogue as catalogues
from gossamer.retrieval.index import segment_file
from gossamer.retrieval.index.build import fill
from gossamer.retrieval.index.config import IndexConfig
from gossamer.retrieval.index.folder import fresh, plain
from gossamer.retrieval.index.identifiers import Ids
from gossamer.retrieval.index.incoming import Batch
from gossamer.retrieval.index.salvage import Salvage, salvage

_ROWS = ("starts", "terms", "weights")


@dataclass(frozen=True)
class Recovery:
    """What a recovery brought back.

    Args:
        documents: in the new index.
        problems: a sentence for each thing that was lost or had to be made anew.
    """

    documents: int
    problems: tuple[str, ...]


@dataclass(eq=False)
class _Found:
    """Readable documents of an index, the newest first; says what could not be read."""

    folder: Path
    left: Salvage
    seen: set[Any] = field(default_factory=set)

    def batches(self) -> Iterator[Batch]:
        for number, body in sorted(self.left.batches.items(), reverse=True):
            yield from self._batch(number, body, f"batch {number}")
        for path in sorted(self.folder.glob("*.segment"), reverse=True):
            number = int(path.stem) if path.stem.isdigit() else -1
            if self.left.segments is None or number in self.left.segments:
                yield from self._batch(number, path.read_bytes(), path.name)
        for number in sorted(self.left.segments or ()):
            if not (self.folder / f"{number:08d}.segment").exists():
                self.left.problems.append(f"Segment {number} is missing: its documents are lost.")

    def _batch(self, number: int, body: bytes, name: str) -> Iterator[Batch]:
        try:
            rows, ids = self._documents(body, name)
        except StoreError as error:
            self.left.problems.append(f"The documents of {name} are lost: {error}")
            return
        alive = np.ones(rows.count, np.bool_)
        gone = self.left.deleted.get(number, np.empty(0, np.uint32))
        alive[gone[gone < rows.count]] = False
        names = ids.take(np.arange(rows.count))
        kept = [i for i in np.flatnonzero(alive).tolist() if names[i] not in self.seen]
        self.seen.update(names[i] for i in kept)
        if kept:
            chosen = [names[i] for i in kept]
            payloads = [self.left.payloads.get(one) for one in chosen]
            yield Batch(_chosen(rows, np.array(kept)), chosen, payloads)

    def _documents(self, body: bytes, name: str) -> tuple[Rows, Ids]:
        arrays, damaged = segment_file.readable(body, name)
        if any(part in damaged for part in (*_ROWS, "ids", "id_text", "id_starts")):
            raise StoreError(f"the checksums of {', '.join(damaged)} are wrong.")
        if damaged:
            self.left.problems.append(f"{', '.join(damaged)} of {name} were made anew.")
        starts, terms, weights = (arrays[part] for part in _ROWS)
        vocabulary = int(terms.max()) + 1 if len(terms) else 1
        if "vocabulary" in arrays:
            vocabulary = max(vocabulary, int(arrays["vocabulary"][0]))
        narrow = terms.astype(np.uint16 if vocabulary <= 1 << 16 else np.uint32)
        rows = Rows(starts, narrow, weights.astype(np.float32), vocabulary)
        return rows, _ids(arrays, rows.count)


def recover_folder(folder: str | os.PathLike[str], target: str | os.PathLike[str]) -> Recovery:
    """Build a new index of every document of a damaged one whose checksums are right.

    What can be derived (postings, keys of ids) is made anew. Where the list of segments or of
    deletions cannot be read, all segment files are taken, and deleted documents may come back; of
    documents with one id the newest is taken. The damaged folder is left as it is, and nobody may
    have it open.

    Raises:
        StoreError: there is no such folder, or the target holds something already.
    """
    source = plain(folder)
    if not source.is_dir():
        raise StoreError(f"{source} is not a folder.")
    left = salvage(source / catalogues.NAME)
    found = _Found(source, left)
    try:
        config = IndexConfig(**left.config)
    except (TypeError, ConfigError):
        left.problems.append("The settings cannot be read; defaults are used.")
        config = IndexConfig()
    with fresh(plain(target)) as temporary:
        writer = fill(temporary, config, found.batches(), 0, None)
        documents = sum(part.live for part in writer.parts)
        writer.catalogue.close()
    return Recovery(documents, tuple(left.problems))


def _ids(arrays: dict[str, NDArray[Any]], count: int) -> Ids:
    if "ids" in arrays:
        return Ids.of(arrays["ids"], "int")
    if not {"id_text", "id_starts"} <= arrays.keys() or len(arrays["id_starts"]) != count + 1:
        raise StoreError("the identifiers are missing.")
    text, starts = arrays["id_text"].tobytes(), arrays["id_starts"].tolist()
    return Ids.of([text[a:b].decode() for a, b in pairwise(starts)], "str")


def _chosen(rows: Rows, kept: NDArray[np.int64]) -> Rows:
    lengths = np.diff(rows.starts)
    flags = np.zeros(rows.count, np.bool_)
    flags[kept] = True
    entries = np.repeat(flags, lengths)
    starts = np.zeros(len(kept) + 1, np.int64)
    np.cumsum(lengths[kept], out=starts[1:])
    return Rows(starts, rows.terms[entries], rows.weights[entries], rows.vocabulary)
