"""The formats by name, and the guess from a file's name and first bytes."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType

from gossamer.core import ConfigError, DataError
from gossamer.core.errors import unknown
from gossamer.retrieval.exchange import anserini, ciff, npz, opensearch, qdrant, vectors
from gossamer.retrieval.exchange.batch import Batch, Options
from gossamer.retrieval.exchange.lexicon import Numbers, Terms
from gossamer.retrieval.exchange.lines import read_lines

AUTO = "auto"
_AS_IS = Options()


@dataclass(frozen=True)
class Format:
    """One foreign format.

    Args:
        name: by which it is asked for.
        about: what it is, in a few words.
        read: path, names of terms and options to batches.
        write: path, batches, names of terms and options to the number of documents.
        named: terms are written by their tokens.
        takes: options that mean something to it, besides the batch.
    """

    name: str
    about: str
    read: Callable[[Path, Terms, Options], Iterator[Batch]]
    write: Callable[[Path, Iterable[Batch], Terms, Options], int]
    named: bool = False
    takes: tuple[str, ...] = ()


FORMATS: Mapping[str, Format] = MappingProxyType({item.name: item for item in (
    Format("vectors", "JSON lines of numbered terms, lossless", vectors.read, vectors.write),
    Format("opensearch", "bulk requests of OpenSearch", opensearch.read, opensearch.write, True,
           ("field",)),
    Format("qdrant", "points of Qdrant", qdrant.read, qdrant.write, False, ("field",)),
    Format("anserini", "JSON lines of whole impacts", anserini.read, anserini.write, True,
           ("scale",)),
    Format("ciff", "Common Index File Format, whole impacts", ciff.read, ciff.write, True,
           ("scale",)),
    Format("npz", "a CSR matrix of scipy", npz.read, npz.write),
)})


def get_format(name: str, options: Options = _AS_IS) -> Format:
    """The format of a name, after a check that the options mean something to it.

    Raises:
        ConfigError: an unknown name, or an option that the format does not take.
    """
    if name not in FORMATS:
        raise ConfigError(unknown("format", name, FORMATS))
    found = FORMATS[name]
    for option in ("scale", "field"):
        if getattr(options, option) is not None and option not in found.takes:
            raise ConfigError(f"The format {name} has no {option}: leave it out.")
    return found


def guess(path: Path) -> str:
    """Name of the format that a file is in, by its ending or by its first line.

    Raises:
        DataError: none of them fits.
    """
    for ending, name in ((".npz", "npz"), (".ciff", "ciff")):
        if path.name.endswith(ending):
            return name
    _, first = next(read_lines(path), ("", {}))
    if isinstance(first.get("terms"), list):
        return "vectors"
    if isinstance(first.get("index", first.get("create")), dict):
        return "opensearch"
    if isinstance(first.get("points", first.get("result")), (list, dict)):
        return "qdrant"
    if isinstance(first.get("vector"), dict):
        return "qdrant" if "payload" in first else "anserini"
    raise DataError(
        f"The format of {path} is not seen from its first line "
        f"{json.dumps(first)[:60]}: name it, one of {', '.join(FORMATS)}.")


def read_documents(
    path: Path, format: str = AUTO, terms: Terms | None = None, options: Options = _AS_IS,
) -> Iterator[Batch]:
    """Batches of the documents of a file.

    Args:
        path: the file.
        format: one of `FORMATS`, or "auto" to see it from the file.
        terms: names of terms; None where tokens are numbers.
        options: batch, scale and field.

    Raises:
        StoreError: the file is not there or damaged.
        DataError: it is not of the format.
        ConfigError: an unknown format, or an option that it does not take.
    """
    found = get_format(guess(path) if format == AUTO else format, options)
    return found.read(path, terms if terms is not None else Numbers(), options)


def write_documents(
    path: Path, batches: Iterable[Batch], format: str, terms: Terms | None = None,
    options: Options = _AS_IS,
) -> int:
    """Write documents to a file, whole or not at all; how many there were.

    Raises:
        StoreError: the file cannot be written.
        ConfigError: an unknown format, or an option that it does not take.
    """
    found = get_format(format, options)
    return found.write(path, batches, terms if terms is not None else Numbers(), options)
