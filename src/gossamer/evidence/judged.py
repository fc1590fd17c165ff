"""Collections of texts with queries and judgements, read from their folders."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

from gossamer.core.errors import DataError

COLLECTIONS = {"Cranfield": "ir_cranfield", "NPL": "ir_npl"}


@dataclass(frozen=True)
class Judged:
    """A collection whose queries have known answers.

    Args:
        name: as it is usually called.
        texts: the documents.
        queries: of which each has a judgement.
        judgements: for each query the gain of each relevant document, by its place in `texts`.
    """

    name: str
    texts: tuple[str, ...]
    queries: tuple[str, ...]
    judgements: tuple[dict[int, float], ...]


def collections(data: Path | None) -> list[Judged]:
    """The collections in a folder, in subfolders or itself; none where there is no folder."""
    if data is None:
        return []
    found = []
    for name, folder in COLLECTIONS.items():
        for place in (data / folder, data):
            if (place / "corpus.jsonl").is_file() and place.name == folder:
                found.append(read_judged(name, place))
                break
    return found


def read_judged(name: str, folder: Path) -> Judged:
    """A folder in the layout of BEIR: corpus.jsonl, queries.jsonl, qrels.tsv.

    Raises:
        DataError: a file is missing or a line of it is not what it should be.
    """
    try:
        documents = _lines(folder / "corpus.jsonl")
        queries = _lines(folder / "queries.jsonl")
        places = {key: i for i, key in enumerate(documents)}
        gains: dict[str, dict[int, float]] = {key: {} for key in queries}
        for line in (folder / "qrels.tsv").read_text(encoding="utf-8").splitlines()[1:]:
            query, document, gain = line.split("\t")
            if query in gains and document in places:
                gains[query][places[document]] = float(gain)
    except (OSError, ValueError, KeyError) as error:
        raise DataError(f"{folder} is not a collection of texts and judgements: {error}") from error
    asked = [key for key in queries if gains[key]]
    return Judged(name, tuple(documents.values()), tuple(queries[key] for key in asked),
                  tuple(gains[key] for key in asked))


def _lines(path: Path) -> dict[str, str]:
    rows = (json.loads(line) for line in path.read_text(encoding="utf-8").splitlines())
    return {row["_id"]: row["text"] for row in rows}
