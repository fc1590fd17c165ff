"""Checking all of a folder, and saving what can be saved of a damaged one."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from gossamer.core import StoreError
from gossamer.retrieval.index import catalogue as catalogues
from gossamer.retrieval.index.catalogue import Catalogue
from gossamer.retrieval.index.segment_file import damage
from gossamer.retrieval.index.snapshot import Snapshot
from gossamer.retrieval.index.stored import gathered, parts_of, path_of


@dataclass(frozen=True)
class Report:
    """What a check found.

    Args:
        files: that were read.
        documents: that can be found.
        problems: a sentence for each thing that is wrong.
    """

    files: int
    documents: int
    problems: tuple[str, ...]

    @property
    def sound(self) -> bool:
        """Whether nothing is wrong."""
        return not self.problems


def check_folder(folder: Path) -> Report:
    """Read every byte of an index and compare all checksums.

    The catalogue goes through SQLite's own check and the checksum of each row, each segment through
    the checksum of each array, and no identifier may name two documents.
    """
    if not (folder / catalogues.NAME).is_file():
        return Report(0, 0, (f"{folder} is not an index: it has no {catalogues.NAME}.",))
    try:
        catalogue = Catalogue(folder / catalogues.NAME, writable=False)
    except StoreError as error:
        return Report(0, 0, (str(error),))
    problems: list[str] = []
    documents = files = 0
    try:
        problems += catalogue.problems()
        contents = catalogue.read()
        for _ in catalogue.payloads():
            pass
        paths = [path_of(folder, number) for number, _ in contents.segments]
        files = 1 + len(paths)
        problems += [each for path in paths for each in damage(path)]
        if not problems:
            parts = gathered(
                parts_of(contents, folder, {}, mapped=True, verify=False),
                str(contents.config.get("weights", "float16")))
            snapshot = Snapshot.of(parts, contents.state.kind)
            documents = snapshot.live
            problems += _twice(snapshot)
    except StoreError as error:
        problems.append(str(error))
    finally:
        catalogue.close()
    return Report(files, documents, tuple(dict.fromkeys(problems)))


def _twice(snapshot: Snapshot) -> list[str]:
    ids = [one for part in snapshot.parts for one in part.living_ids()]
    if len(set(ids)) == len(ids):
        return []
    return [f"{len(ids) - len(set(ids))} ids name more than one document; recover the index."]
