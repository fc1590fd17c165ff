"""Points of Qdrant with a sparse vector: a line is the body of one upsert request.

Ids there are whole numbers or UUIDs. Another string becomes the UUID that is made from it (version
5), and stays in the payload, from where reading takes it back. Weights are written as they are.
"""

from __future__ import annotations

import uuid
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

NAME = "sparse"
OWN_ID = "gossamer_id"
_POINTS = 256


def read(path: Path, terms: Terms, options: Options) -> Iterator[Batch]:
    """Batches of ``options.batch`` documents from requests, or from answers to a scroll.

    Raises:
        StoreError: there is no such file.
        DataError: a line is not of this format.
    """
    gathered = Gathered(path.name)
    for where, item in read_lines(path):
        inner = item.get("result", item)
        points = inner.get("points", [inner]) if isinstance(inner, dict) else None
        if not isinstance(points, list):
            raise DataError(f'{where} has no list of "points".')
        for point in points:
            _add(gathered, where, point, options.field or NAME)
            if len(gathered.ids) >= options.batch:
                yield gathered.take(terms.size)
    if gathered.ids:
        yield gathered.take(terms.size)


def write(
    path: Path, batches: Iterable[Batch], terms: Terms, options: Options,
) -> int:
    """Write requests of 256 points; the number of documents.

    Raises:
        ConfigError: an id is negative, or a payload has a field ``gossamer_id``.
    """
    count, name = 0, options.field or NAME

    def requests() -> Iterator[dict[str, Any]]:
        nonlocal count
        points: list[dict[str, Any]] = []
        for id, numbers, weights, payload in documents(batches):
            points.append(_point(id, {name: {"indices": numbers, "values": weights}}, payload))
            count += 1
            if len(points) == _POINTS:
                yield {"points": points}
                points = []
        if points:
            yield {"points": points}

    write_lines(path, requests())
    return count


def _point(id: int | str, vector: dict[str, Any], payload: Any) -> dict[str, Any]:
    fields = fields_of(payload)
    if OWN_ID in fields:
        raise ConfigError(f"The payload of {id!r} has a field {OWN_ID!r}, which is kept for ids.")
    if isinstance(id, int):
        if id < 0:
            raise ConfigError(f"Document {id} has a negative id, which Qdrant does not take.")
        return {"id": id, "vector": vector, "payload": fields}
    made = _uuid(id)
    own = {} if made == id else {OWN_ID: id}
    return {"id": made, "vector": vector, "payload": fields | own}


def _uuid(id: str) -> str:
    try:
        found = str(uuid.UUID(id))
    except ValueError:
        found = ""
    return id if found == id else str(uuid.uuid5(uuid.NAMESPACE_URL, id))


def _add(gathered: Gathered, where: str, point: Any, name: str) -> None:
    vector = point.get("vector") if isinstance(point, dict) else None
    if isinstance(vector, dict) and "indices" not in vector:
        vector = vector.get(name)
    found = vector if isinstance(vector, dict) else {}
    indices, values = found.get("indices"), found.get("values")
    payload = point.get("payload") or {} if isinstance(point, dict) else None
    if not (isinstance(indices, list) and isinstance(values, list) and isinstance(payload, dict)):
        raise DataError(
            f"{where} has a point without indices and values in a sparse vector {name!r}.")
    fields = dict(payload)
    id = fields.pop(OWN_ID, point.get("id"))
    gathered.add(id, indices, values, payload_of(fields))
