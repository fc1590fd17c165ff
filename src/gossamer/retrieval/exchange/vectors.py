"""JSON lines of numbered terms, the format of gossamer itself: nothing is lost.

``{"id": 7, "terms": [3, 15], "weights": [0.5, 1.25], "payload": ...}`` a line.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path

from gossamer.core import DataError
from gossamer.retrieval.exchange.batch import Batch, Gathered, Options, documents
from gossamer.retrieval.exchange.lexicon import Terms
from gossamer.retrieval.exchange.lines import read_lines, write_lines


def read(path: Path, terms: Terms, options: Options) -> Iterator[Batch]:
    """Batches of ``options.batch`` documents.

    Raises:
        StoreError: there is no such file.
        DataError: a line is not of this format.
    """
    gathered = Gathered(path.name)
    for where, item in read_lines(path):
        numbers, weights = item.get("terms"), item.get("weights")
        if not isinstance(numbers, list) or not isinstance(weights, list):
            raise DataError(f'{where} needs "id", "terms" and "weights".')
        gathered.add(item.get("id"), numbers, weights, item.get("payload"))
        if len(gathered.ids) == options.batch:
            yield gathered.take(terms.size)
    if gathered.ids:
        yield gathered.take(terms.size)


def write(
    path: Path, batches: Iterable[Batch], terms: Terms, options: Options,
) -> int:
    """Write documents a line each; the number of documents."""
    return write_lines(path, (
        {"id": id, "terms": numbers, "weights": weights}
        | ({} if payload is None else {"payload": payload})
        for id, numbers, weights, payload in documents(batches)))
