"""Bulk requests of OpenSearch for neural sparse search: an action and a document, line by line.

The field is of the type ``rank_features`` or ``sparse_vector``. Weights are written as they are;
OpenSearch itself keeps 9 significant bits of a ``rank_features`` weight, and a ``sparse_vector``
field takes only tokens that are whole numbers.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from gossamer.core import ConfigError, DataError
from gossamer.retrieval.exchange.batch import (
    Batch,
    Gathered,
    Options,
    documents,
    fields_of,
    payload_of,
)
from gossamer.retrieval.exchange.lexicon import Terms
from gossamer.retrieval.exchange.lines import read_lines, write_lines

FIELD = "passage_embedding"
_ACTIONS = ("index", "create")


def read(path: Path, terms: Terms, options: Options) -> Iterator[Batch]:
    """Batches of ``options.batch`` documents from a file of bulk requests.

    Args:
        path: a file of bulk requests with the actions ``index`` and ``create``.
        terms: names of the tokens.
        options: the field that holds the vector; the other fields are the payload.

    Raises:
        StoreError: there is no such file.
        DataError: a line is not of this format, or has a token that is not known.
    """
    name = options.field or FIELD
    gathered = Gathered(path.name)
    lines = read_lines(path)
    for where, action in lines:
        kind = next(iter(action), "")
        if kind not in _ACTIONS or not isinstance(action[kind], dict):
            raise DataError(f"{where} is no action {' or '.join(_ACTIONS)} but {kind!r}.")
        following = next(lines, None)
        vector = following[1].pop(name, None) if following is not None else None
        if following is None or not isinstance(vector, dict):
            raise DataError(f"The line after {where} needs {name!r}, a mapping of weights.")
        numbers = [terms.number(token) for token in vector]
        gathered.add(action[kind].get("_id"), numbers, list(vector.values()),
                     payload_of(following[1]))
        if len(gathered.ids) == options.batch:
            yield gathered.take(terms.size)
    if gathered.ids:
        yield gathered.take(terms.size)


def write(
    path: Path, batches: Iterable[Batch], terms: Terms, options: Options,
) -> int:
    """Write an action and a document for each; the number of documents.

    Raises:
        ConfigError: a payload has a field of the vector's name.
    """
    return write_lines(path, _lines(batches, terms, options.field or FIELD)) // 2


def _lines(batches: Iterable[Batch], terms: Terms, name: str) -> Iterator[dict[str, Any]]:
    for id, numbers, weights, payload in documents(batches):
        fields = fields_of(payload)
        if name in fields:
            raise ConfigError(f"The payload of {id!r} has a field {name!r}: name the vector's "
                              "field otherwise.")
        yield {"index": {"_id": id}}
        yield {**fields, name: {terms.token(n): w for n, w in zip(numbers, weights)}}
