"""What is asked of an index: queries as rows, and the knobs that a search runs with."""

from __future__ import annotations

import operator
from collections.abc import Mapping, Sequence
from typing import Any

from gossamer.core import ConfigError, DataError
from gossamer.layout.rows import Rows, as_rows
from gossamer.retrieval.index.knobs import Knobs, Tuned, choose


def queries_of(queries: Any, vocabulary: int | None) -> Rows:
    """Queries as rows.

    Raises:
        DataError: they are no sparse vectors, or not of this vocabulary.
    """
    rows = queries if isinstance(queries, Rows) else as_rows(queries)
    if vocabulary is not None and rows.vocabulary > vocabulary and rows.nnz:
        largest = int(rows.terms.max())
        if largest >= vocabulary:
            raise DataError(
                f"A query has term {largest}, outside the vocabulary of {vocabulary} terms.")
    return rows


def one_query(query: Any, vocabulary: int | None) -> Rows:
    """One query, given as a row or as rows of which there is one.

    Raises:
        DataError: there are more, or none.
    """
    rows = queries_of([query] if _is_row(query) else query, vocabulary)
    if rows.count != 1:
        raise DataError(f"One query is needed, not {rows.count}.")
    return rows


def knobs_of(
    recall: float, k: int, budget: int | None, candidates: int | None, tuned: Tuned | None,
    documents: int,
) -> Knobs:
    """The knobs of a recall, but for those that were given.

    Raises:
        ConfigError: one is out of range.
    """
    if budget is not None:
        whole("budget", budget, 1)
    if candidates is not None:
        whole("candidates", candidates, 0)
    knobs = choose(recall, k, documents, tuned)
    if budget is None and candidates is None:
        return knobs
    if knobs.exact:
        knobs = choose(0.99, k, documents, None)
    return Knobs(knobs.budget if budget is None else budget,
                 knobs.candidates if candidates is None else candidates)


def whole(name: str, value: Any, least: int) -> int:
    """The value as an int.

    Raises:
        ConfigError: it is no integer, or less than ``least``.
    """
    try:
        number = operator.index(value)
    except TypeError:
        raise ConfigError(f"{name} must be an integer, not {value!r}.") from None
    if number < least:
        raise ConfigError(f"{name} is {number}; it must be at least {least}.")
    return number


def _is_row(query: Any) -> bool:
    if isinstance(query, Mapping):
        return True
    if not isinstance(query, Sequence) or not query:
        return False
    first = query[0]
    return isinstance(first, tuple) and len(first) == 2 and not isinstance(first[0], tuple)
