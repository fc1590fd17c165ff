"""Encoder: text to sparse vectors, kept beside the index that it made."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar, Protocol

from gossamer.core import DataError, StoreError
from gossamer.core.atomic import write_text
from gossamer.layout.rows import Rows
from gossamer.retrieval.exchange import Lexicon

FOLDER = "encoder"
_FILE = "encoder.json"
_FORMAT = 1


class Encoder(Protocol):
    """What an index of texts is searched through."""

    kind: ClassVar[str]

    @property
    def lexicon(self) -> Lexicon:
        """Names of the terms."""

    def documents(self, texts: Sequence[str]) -> Rows:
        """A row a text."""

    def queries(self, texts: Sequence[str]) -> Rows:
        """A row a query."""

    def describe(self) -> dict[str, Any]:
        """What it is made anew from, as JSON knows it."""


class Names:
    """No encoder: terms have names, and vectors come ready made.

    >>> Names(["plate", "flow"]).lexicon.number("flow")
    1
    """

    kind: ClassVar[str] = "names"

    def __init__(self, tokens: Sequence[str]) -> None:
        self.lexicon = Lexicon(tokens)

    def documents(self, texts: Sequence[str]) -> Rows:
        """Refused: there is nothing that reads text.

        Raises:
            DataError: always.
        """
        raise DataError(
            "This index holds vectors that came ready made, and nothing here reads text: give a "
            "vector of token and weight instead.")

    queries = documents

    def describe(self) -> dict[str, Any]:
        """The tokens."""
        return {"tokens": self.lexicon.tokens}


def keep(encoder: Encoder, index_folder: Path) -> None:
    """Write an encoder beside its index, so that `read_kept` finds it.

    Raises:
        StoreError: the folder cannot be written.
    """
    folder = index_folder / FOLDER
    folder.mkdir(exist_ok=True)
    found = {"format": _FORMAT, "kind": encoder.kind, **encoder.describe()}
    write_text(folder / _FILE, json.dumps(found, ensure_ascii=False))


def read_kept(index_folder: Path) -> Mapping[str, Any] | None:
    """What `keep` wrote, or None where there is no encoder.

    Raises:
        StoreError: it is damaged, or of a newer version.
    """
    path = index_folder / FOLDER / _FILE
    if not path.is_file():
        return None
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise StoreError(f"{path} is damaged: build the index anew.") from error
    if not isinstance(found, dict) or found.get("format") != _FORMAT:
        raise StoreError(
            f"{path} is not of version {_FORMAT}: install the gossamer that wrote it.")
    return found
