"""Rows: sparse vectors of different lengths, one after the other, as terms and weights."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from gossamer.core import DataError

__all__ = ["Rows", "as_rows"]

_MOST_TERMS = 2**31 - 1


@dataclass(frozen=True, eq=False)
class Rows:
    """Sparse vectors: row ``i`` has ``terms[starts[i]:starts[i + 1]]`` with their weights.

    Inside a row terms rise and none comes twice. `as_rows` makes one from anything and checks it.

    Args:
        starts: int64 ``[count + 1]``.
        terms: uint16 ``[nnz]``, or uint32 where the vocabulary has more than 65,536 terms.
        weights: float32 ``[nnz]``, finite and not negative.
        vocabulary: number of terms that there are.
    """

    starts: NDArray[np.int64]
    terms: NDArray[Any]
    weights: NDArray[np.float32]
    vocabulary: int

    @property
    def count(self) -> int:
        """Number of rows."""
        return len(self.starts) - 1

    @property
    def nnz(self) -> int:
        """Number of terms of all rows together."""
        return int(self.starts[-1])

    def __len__(self) -> int:
        return self.count

    def row(self, i: int) -> tuple[NDArray[Any], NDArray[np.float32]]:
        """Terms and weights of one row, as views."""
        run = slice(self.starts[i], self.starts[i + 1])
        return self.terms[run], self.weights[run]

    def take(self, first: int, last: int) -> Rows:
        """Rows ``first`` to ``last - 1``, sharing memory but for the starts."""
        run = slice(self.starts[first], self.starts[last])
        starts = self.starts[first:last + 1] - self.starts[first]
        return Rows(starts, self.terms[run], self.weights[run], self.vocabulary)


def as_rows(data: Any, vocabulary: int | None = None) -> Rows:
    """Rows from a matrix or from lists, checked; weights of zero are left out.

    Args:
        data: `Rows`; a scipy sparse matrix; a torch tensor (CSR, COO or dense) or numpy matrix
            ``[count, vocabulary]``; a tuple ``(starts, terms, weights)`` of arrays; or a sequence
            of rows, each a mapping from term to weight or a sequence of (term, weight) pairs.
        vocabulary: number of terms; for lists the largest term plus one where it is not given.

    Raises:
        DataError: a weight is negative or not finite, a term comes twice in a row or lies outside
            the vocabulary, or the data is of another kind.

    >>> rows = as_rows([[(3, 0.5), (1, 2.0)], {0: 1.0}])
    >>> rows.count, rows.vocabulary, rows.row(0)[0].tolist()
    (2, 4, [1, 3])
    """
    if isinstance(data, Rows):
        return data if vocabulary in (None, data.vocabulary) else _checked(
            data.starts, data.terms, data.weights, vocabulary)
    if isinstance(data, torch.Tensor):
        return _from_tensor(data, vocabulary)
    if isinstance(data, np.ndarray):
        return _from_tensor(torch.from_numpy(np.ascontiguousarray(data)), vocabulary)
    if hasattr(data, "tocsr"):
        matrix = data.tocsr()
        return _checked(matrix.indptr, matrix.indices, matrix.data, vocabulary or matrix.shape[1])
    if isinstance(data, tuple) and len(data) == 3 and all(hasattr(x, "dtype") for x in data):
        starts, terms, weights = (np.asarray(part) for part in data)
        return _checked(starts, terms, weights, vocabulary)
    if isinstance(data, Iterable) and not isinstance(data, (str, bytes, Mapping)):
        return _from_lists(list(data), vocabulary)
    raise DataError(
        f"Cannot read sparse rows from {type(data).__name__}: give a sparse matrix, a tensor, or a "
        "list of rows of (term, weight) pairs."
    )


def _from_tensor(data: torch.Tensor, vocabulary: int | None) -> Rows:
    if data.ndim != 2:
        raise DataError(f"Rows need a matrix [rows, terms], not {data.ndim} dimensions.")
    matrix = data.detach().cpu()
    if matrix.layout == torch.sparse_csr:
        starts, terms = matrix.crow_indices().numpy(), matrix.col_indices().numpy()
        weights = matrix.values()
    else:
        # Sorted by row and term, which is what a matrix in CSR needs beside its row starts.
        sparse = (matrix if matrix.layout == torch.sparse_coo else matrix.to_sparse()).coalesce()
        places, weights = sparse.indices().numpy(), sparse.values()
        starts, terms = np.searchsorted(places[0], np.arange(matrix.shape[0] + 1)), places[1]
    return _checked(starts, terms, weights.float().numpy(), vocabulary or matrix.shape[1])


def _from_lists(rows: Sequence[Any], vocabulary: int | None) -> Rows:
    starts = np.zeros(len(rows) + 1, np.int64)
    terms: list[Any] = []
    weights: list[Any] = []
    for i, row in enumerate(rows):
        try:
            if isinstance(row, Mapping):
                terms.extend(row.keys())
                weights.extend(row.values())
            else:
                for term, weight in row:
                    terms.append(term)
                    weights.append(weight)
        except (TypeError, ValueError):
            raise _no_row(i) from None
        starts[i + 1] = len(terms)
    whole = np.array(terms) if terms else np.zeros(0, np.int64)
    if whole.dtype.kind not in "iu" or whole.ndim != 1:
        _find_bad(terms, starts, (int, np.integer))
        raise DataError(f"A term of {max(terms, key=abs)} is out of range.")
    try:
        return _checked(starts, whole, np.array(weights, np.float64), vocabulary)
    except (TypeError, ValueError):
        _find_bad(weights, starts, (int, float, np.number))
        raise


def _find_bad(values: Sequence[Any], starts: NDArray[np.int64], kinds: tuple[type, ...]) -> None:
    for at, value in enumerate(values):
        if not isinstance(value, kinds):
            raise _no_row(int(np.searchsorted(starts, at, side="right")) - 1)


def _no_row(i: int) -> DataError:
    return DataError(
        f"Row {i} is not a mapping from term to weight nor a list of (term, weight) pairs of an "
        "integer and a number."
    )


def _checked(
    starts: NDArray[Any], terms: NDArray[Any], weights: NDArray[Any], vocabulary: int | None,
) -> Rows:
    starts = starts.astype(np.int64)
    _check_frame(starts, terms, weights)
    row_of = np.repeat(np.arange(len(starts) - 1), np.diff(starts))
    weights = _check_weights(weights, row_of)
    if len(terms) and (int(terms.min()) < 0 or int(terms.max()) >= _MOST_TERMS):
        bad = int(terms.min()) if int(terms.min()) < 0 else int(terms.max())
        raise DataError(f"Term {bad} is out of range: terms are 0 to {_MOST_TERMS - 1}.")
    size = int(terms.max()) + 1 if len(terms) else 1
    if vocabulary is None:
        vocabulary = size
    if not 0 < vocabulary <= _MOST_TERMS:
        raise DataError(f"A vocabulary of {vocabulary} terms is out of range: 1 to {_MOST_TERMS}.")
    if size > vocabulary:
        at = int(np.argmax(terms))
        raise DataError(
            f"Row {row_of[at]} has term {int(terms[at])}, outside the vocabulary of {vocabulary} "
            "terms."
        )
    kept = weights > 0
    if not kept.all():
        starts = np.concatenate(([0], np.cumsum(kept)))[starts]
        terms, weights, row_of = terms[kept], weights[kept], row_of[kept]
    terms, weights = _in_order(terms, weights, row_of)
    narrow = np.uint16 if vocabulary <= 1 << 16 else np.uint32
    return Rows(starts, np.ascontiguousarray(terms, narrow), weights, int(vocabulary))


def _check_frame(starts: NDArray[Any], terms: NDArray[Any], weights: NDArray[Any]) -> None:
    if len(terms) != len(weights):
        raise DataError(f"There are {len(terms)} terms but {len(weights)} weights.")
    framed = len(starts) > 0 and starts[0] == 0 and starts[-1] == len(terms)
    if not framed or (np.diff(starts) < 0).any():
        raise DataError(f"Row starts must rise from 0 to the number of terms, {len(terms)}.")
    if not np.issubdtype(terms.dtype, np.integer) and len(terms):
        raise DataError(f"Terms must be integers, not {terms.dtype}.")


def _check_weights(weights: NDArray[Any], row_of: NDArray[Any]) -> NDArray[np.float32]:
    with np.errstate(over="ignore", invalid="ignore"):
        narrow = np.ascontiguousarray(weights, np.float32)
        bad = ~(np.isfinite(narrow) & (narrow >= 0))
    if bad.any():
        at = int(np.argmax(bad))
        raise DataError(
            f"Row {row_of[at]} has a weight of {weights[at]}: weights must be finite and not "
            "negative."
        )
    return narrow


def _in_order(
    terms: NDArray[Any], weights: NDArray[np.float32], row_of: NDArray[Any],
) -> tuple[NDArray[Any], NDArray[np.float32]]:
    same_row = row_of[1:] == row_of[:-1]
    if (same_row & (terms[1:].astype(np.int64) <= terms[:-1])).any():
        order = np.lexsort((terms, row_of))
        terms, weights = terms[order], weights[order]
    twice = same_row & (terms[1:] == terms[:-1])
    if twice.any():
        at = int(np.argmax(twice))
        raise DataError(
            f"Row {row_of[at]} has term {int(terms[at])} twice: add its weights up first."
        )
    return terms, weights
