"""What clients ask for: bodies of requests, checked field by field."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from gossamer.core import ConfigError, DataError
from gossamer.core.errors import unknown
from gossamer.layout.rows import Rows, as_rows
from gossamer.retrieval.encoders import Encoder
from gossamer.retrieval.exchange import Numbers
from gossamer.retrieval.serve.limits import Limits


@dataclass(frozen=True)
class Reader:
    """How vectors of requests are read: names of terms, and text where there is an encoder."""

    limits: Limits
    encoder: Encoder | None = None

    def rows(self, given: Sequence[Any], what: str, *, queries: bool) -> Rows:
        """Vectors and texts as rows, in their order.

        Raises:
            DataError: one is neither, is too long, or there is nothing that reads text.
        """
        texts = [one for one in given if isinstance(one, str)]
        for text in texts:
            if len(text) > self.limits.text:
                raise DataError(f"A {what} of {len(text)} characters is too long: at most "
                                f"{self.limits.text} are read.")
        if texts and self.encoder is None:
            raise DataError(f"This index has no encoder, and cannot read text: give a {what} as a "
                            "vector of term and weight.")
        if texts and self.encoder is not None:
            read = self.encoder.queries if queries else self.encoder.documents
            encoded = read(texts)
            if len(texts) == len(given):
                return encoded
            place = iter(range(len(texts)))
            given = [encoded.row(next(place)) if isinstance(one, str) else one for one in given]
        vectors = [one if isinstance(one, tuple) else self._vector(one, what) for one in given]
        starts = np.zeros(len(vectors) + 1, np.int64)
        np.cumsum([len(terms) for terms, _ in vectors], out=starts[1:])
        terms = np.concatenate([np.empty(0, np.int64), *(np.asarray(t, np.int64)
                                                         for t, _ in vectors)])
        weights = np.concatenate([np.empty(0), *(np.asarray(w, np.float64) for _, w in vectors)])
        size = self.encoder.lexicon.size if self.encoder is not None else None
        return as_rows((starts, terms, weights), size)

    def _vector(self, value: Any, what: str) -> tuple[list[int], list[float]]:
        if not isinstance(value, dict):
            raise DataError(f"A {what} is a text or a vector, not {_kind(value)}.")
        if len(value) == 2 and isinstance(value.get("terms"), list):
            terms, weights = value["terms"], value.get("weights")
            if not isinstance(weights, list) or len(weights) != len(terms):
                raise DataError(f"The {what} has {len(terms)} terms, and needs as many weights.")
            if not all(type(term) is int and abs(term) < 1 << 62 for term in terms):
                raise DataError(f"The {what} has a term that is no integer in range.")
        else:
            names = Numbers() if self.encoder is None else self.encoder.lexicon
            terms, weights = [names.number(token) for token in value], list(value.values())
        if len(terms) > self.limits.terms:
            raise DataError(f"A {what} of {len(terms)} terms is too long: at most "
                            f"{self.limits.terms} are taken.")
        for weight in weights:
            if type(weight) not in (float, int) or not abs(weight) < math.inf:
                raise DataError(f"The {what} has a weight of {str(weight)[:40]!r}, which is no "
                                "finite number.")
        if any(abs(weight) > 3e38 for weight in weights):
            raise DataError(f"The {what} has a weight beyond 3e38.")
        return terms, weights


@dataclass(frozen=True)
class Search:
    """A request to search."""

    queries: list[Any]
    single: bool
    k: int
    recall: float
    exact: bool
    budget: int | None
    candidates: int | None
    ids: list[Any] | None
    explain: bool
    payload: bool


def search(body: Any, limits: Limits) -> Search:
    """A checked request to search.

    Raises:
        DataError: a field is unknown, missing or of another type, or beyond a limit.
    """
    found = _Fields(body, ("query", "queries", "k", "recall", "exact", "budget", "candidates",
                           "ids", "explain", "payload"))
    single = "query" in found.body
    if single == ("queries" in found.body):
        raise DataError('Give either "query" or "queries".')
    queries = [found.body["query"]] if single else found.items("queries", limits.queries)
    k = found.get("k", 10, _integer, "a whole number")
    if not 1 <= k <= limits.k:
        raise DataError(f"k is {k}; it must be from 1 to {limits.k}.")
    ids = found.items("ids", limits.documents) if found.body.get("ids") is not None else None
    return Search(
        queries, single, k, found.get("recall", 0.95, _number, "a number"),
        found.get("exact", False, _flag, "true or false"),
        found.get("budget", None, _integer, "a whole number"),
        found.get("candidates", None, _integer, "a whole number"),
        ids, found.get("explain", False, _flag, "true or false"),
        found.get("payload", True, _flag, "true or false"))


@dataclass(frozen=True)
class Documents:
    """A request to add documents or to change some."""

    vectors: list[Any]
    ids: list[Any] | None
    payloads: list[Any] | None


def documents(body: Any, limits: Limits) -> Documents:
    """A checked request with documents.

    Raises:
        DataError: a field is unknown, missing or of another type, or there are too many.
    """
    given = _Fields(body, ("documents",)).items("documents", limits.documents)
    vectors, ids, payloads = [], [], []
    for one in given:
        found = _Fields(one, ("id", "vector", "text", "payload"))
        if "vector" not in found.body and "text" not in found.body:
            raise DataError('A document needs a "vector" or a "text".')
        text = found.get("text", None, lambda value: isinstance(value, str), "a text")
        vectors.append(found.body.get("vector", text))
        # A text without a payload is what a searcher wants to see.
        payloads.append(found.body.get("payload", text))
        ids.append(found.body.get("id"))
    without = sum(id is None for id in ids)
    if without not in (0, len(ids)):
        raise DataError(f"{without} of {len(ids)} documents have no id: give all of them one, or "
                        "none.")
    kept = None if all(payload is None for payload in payloads) else payloads
    return Documents(vectors, None if without else ids, kept)


def identifiers(body: Any, limits: Limits) -> list[Any]:
    """The ids of a request to delete."""
    return _Fields(body, ("ids",)).items("ids", limits.documents)


def explanation(body: Any) -> tuple[Any, Any]:
    """Query and id of a request to explain."""
    found = _Fields(body, ("query", "id"))
    for name in ("query", "id"):
        if name not in found.body:
            raise DataError(f'The request lacks "{name}".')
    return found.body["query"], found.body["id"]


class _Fields:
    def __init__(self, body: Any, known: Sequence[str]) -> None:
        if not isinstance(body, dict):
            raise DataError(f"The body is {_kind(body)}, not an object.")
        for name in body:
            if name not in known:
                raise ConfigError(unknown("field", name[:40], known))
        self.body: Mapping[str, Any] = body

    def get(self, name: str, default: Any, fits: Callable[[Any], bool], what: str) -> Any:
        value = self.body.get(name)
        if value is None:
            return default
        if not fits(value):
            raise DataError(f'"{name}" is {_kind(value)}, not {what}.')
        return value

    def items(self, name: str, most: int) -> list[Any]:
        found = self.body.get(name)
        if not isinstance(found, list):
            raise DataError(f'The request lacks a list "{name}".')
        if len(found) > most:
            raise DataError(f'"{name}" has {len(found)} members; at most {most} are taken.')
        return found


def _integer(value: Any) -> bool:
    return type(value) is int and abs(value) < 1 << 62


def _number(value: Any) -> bool:
    return type(value) in (int, float)


def _flag(value: Any) -> bool:
    return isinstance(value, bool)


def _kind(value: Any) -> str:
    names = {dict: "an object", list: "a list", str: "a text", bool: "a truth value",
             int: "a number", float: "a number", type(None): "null"}
    return names[type(value)]
