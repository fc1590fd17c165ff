"""Batch: documents on their way into an index or out of it."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gossamer.core import ConfigError, DataError
from gossamer.layout.rows import Rows, as_rows

Ids = Sequence[int] | Sequence[str]
PAYLOAD = "payload"


@dataclass(frozen=True)
class Options:
    """How a foreign file is read or written.

    Args:
        batch: documents of a batch.
        scale: weights are multiplied by it on writing, and divided by it on reading, in formats
            of whole impacts; None takes 100 for writing and 1 for reading.
        field: name of the field that holds the vector, where the format lets one choose.
    """

    batch: int = 4096
    scale: float | None = None
    field: str | None = None

    def __post_init__(self) -> None:
        if self.batch < 1:
            raise ConfigError(f"A batch of {self.batch} documents is not possible: take 1 or more.")
        if self.scale is not None and not (self.scale > 0 and math.isfinite(self.scale)):
            raise ConfigError(f"scale is {self.scale}; it must be positive and finite.")

    def scaled(self, otherwise: float) -> float:
        """The scale, or another where none is given."""
        return otherwise if self.scale is None else self.scale


@dataclass(frozen=True, eq=False)
class Batch:
    """Some documents: the id, the sparse vector and what is stored beside it.

    Args:
        ids: all integers or all strings, one a row.
        rows: the vectors.
        payloads: one a row, as JSON knows them; None where there are none.
    """

    ids: Ids
    rows: Rows
    payloads: Sequence[Any] | None = None


@dataclass
class Gathered:
    """Documents read one by one, until they are taken as a batch."""

    where: str
    ids: list[Any] = field(default_factory=list)
    lengths: list[int] = field(default_factory=list)
    terms: list[int] = field(default_factory=list)
    weights: list[float] = field(default_factory=list)
    payloads: list[Any] = field(default_factory=list)

    def add(self, id: Any, terms: Sequence[int], weights: Sequence[float], payload: Any) -> None:
        """Append one document."""
        if type(id) not in (int, str):
            raise DataError(f"{self.where} has an id of {id!r}: ids are integers or strings.")
        if len(terms) != len(weights):
            raise DataError(
                f"Document {id!r} of {self.where} has {len(terms)} terms but {len(weights)} "
                "weights."
            )
        self.ids.append(id)
        self.lengths.append(len(terms))
        self.terms.extend(terms)
        self.weights.extend(weights)
        self.payloads.append(payload)

    def take(self, vocabulary: int | None) -> Batch:
        """The documents so far as a batch; it is empty afterwards."""
        if len({type(id) for id in self.ids}) > 1:
            raise DataError(
                f"{self.where} mixes integer and string ids: give every document the same kind."
            )
        starts = np.concatenate(([0], np.cumsum(self.lengths, dtype=np.int64)))
        rows = as_rows(
            (starts, self._numbers(self.terms, "iu"), self._numbers(self.weights, "iuf")),
            vocabulary)
        payloads = None if all(p is None for p in self.payloads) else self.payloads
        batch = Batch(self.ids, rows, payloads)
        self.ids, self.payloads = [], []
        self.lengths, self.terms, self.weights = [], [], []
        return batch

    def _numbers(self, values: list[Any], kinds: str) -> NDArray[Any]:
        try:
            found = np.array(values)
        except ValueError:  # lists among numbers
            found = np.array(["no number"])
        if len(values) and (found.dtype.kind not in kinds or found.ndim != 1):
            what = "term that is no integer" if kinds == "iu" else "weight that is no number"
            raise DataError(
                f"{self.where} has a {what}, in one of the documents {self.ids[0]!r} to "
                f"{self.ids[-1]!r}."
            )
        return found.astype(np.int64 if kinds == "iu" else np.float64)


def documents(batches: Iterable[Batch]) -> Iterator[tuple[Any, list[int], list[float], Any]]:
    """Id, terms, weights and payload of every document of all batches."""
    for batch in batches:
        starts = batch.rows.starts.tolist()
        terms, weights = batch.rows.terms.tolist(), batch.rows.weights.tolist()
        payloads = batch.payloads if batch.payloads is not None else [None] * len(batch.ids)
        for id, (first, last), payload in zip(
                batch.ids, itertools.pairwise(starts), payloads, strict=True):
            yield id, terms[first:last], weights[first:last], payload


def fields_of(payload: Any) -> dict[str, Any]:
    """A payload as fields of a document; what is no mapping becomes the field ``payload``."""
    if payload is None:
        return {}
    if isinstance(payload, Mapping) and set(payload) != {PAYLOAD} and payload:
        return dict(payload)
    return {PAYLOAD: payload}


def payload_of(fields: Mapping[str, Any]) -> Any:
    """The payload that `fields_of` made these fields of."""
    if not fields:
        return None
    return fields[PAYLOAD] if set(fields) == {PAYLOAD} else dict(fields)
