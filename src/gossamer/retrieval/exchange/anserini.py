"""JSON lines of impacts, as Anserini and Pyserini index them (JsonVectorCollection).

``{"id": "d7", "contents": "...", "vector": {"token": 51}}`` a line. Impacts there are whole
numbers, so that weights are multiplied by a scale, 100 by their custom, and rounded; a weight that
would round to nothing becomes 1 and stays a match. Reading takes weights as they are
unless a scale is given, which they are divided by.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from gossamer.core import DataError
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

SCALE = 100.0
_TEXT = "contents"


def read(path: Path, terms: Terms, options: Options) -> Iterator[Batch]:
    """Batches of ``options.batch`` documents, weights divided by ``options.scale``.

    Raises:
        StoreError: there is no such file.
        DataError: a line is not of this format, or has a token that is not known.
    """
    scale = options.scaled(1.0)
    gathered = Gathered(path.name)
    for where, item in read_lines(path):
        vector = item.pop("vector", None)
        if not isinstance(vector, dict):
            raise DataError(f'{where} needs "id" and "vector", a mapping from token to weight.')
        id = item.pop("id", item.pop("docid", None))
        numbers = [terms.number(token) for token in vector]
        gathered.add(id, numbers, _divided(where, list(vector.values()), scale), _payload(item))
        if len(gathered.ids) == options.batch:
            yield gathered.take(terms.size)
    if gathered.ids:
        yield gathered.take(terms.size)


def write(
    path: Path, batches: Iterable[Batch], terms: Terms, options: Options,
) -> int:
    """Write documents with whole impacts; the number of documents.

    Raises:
        DataError: a weight has no name for its term.
    """
    scale = options.scaled(SCALE)
    return write_lines(path, (
        {"id": id, **_fields(payload),
         "vector": {terms.token(n): max(1, round(w * scale)) for n, w in zip(numbers, weights)}}
        for id, numbers, weights, payload in documents(batches)))


def _divided(where: str, weights: list[Any], scale: float) -> list[Any]:
    if scale == 1.0:
        return weights
    try:
        return [weight / scale for weight in weights]
    except TypeError:
        raise DataError(f"{where} has a weight that is not a number.") from None


def _fields(payload: Any) -> dict[str, Any]:
    """A text is the contents; other payloads keep their fields beside empty contents."""
    if isinstance(payload, str):
        return {_TEXT: payload}
    return {_TEXT: ""} | fields_of(payload)


def _payload(item: dict[str, Any]) -> Any:
    text = item.pop(_TEXT, "")
    if item:
        return payload_of(item | ({_TEXT: text} if text else {}))
    return text or None
