"""Rows: the same vectors from every kind of input, and one sentence for what cannot be one."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy import sparse

from gossamer.core import DataError
from gossamer.layout.rows import Rows, as_rows

VECTORS = st.lists(
    st.dictionaries(st.integers(0, 40), st.floats(0.0, 100.0, width=32), max_size=8), max_size=6
)


def dense(rows: Rows) -> np.ndarray:
    out = np.zeros((rows.count, rows.vocabulary), np.float32)
    for i in range(rows.count):
        terms, weights = rows.row(i)
        out[i, terms] = weights
    return out


def table(vectors: list[dict[int, float]], vocabulary: int = 41) -> np.ndarray:
    out = np.zeros((len(vectors), vocabulary), np.float32)
    for i, vector in enumerate(vectors):
        for term, weight in vector.items():
            out[i, term] = weight
    return out


@given(VECTORS)
def test_every_kind_of_input_gives_the_same_rows(vectors):
    wanted = table(vectors)
    matrix = sparse.csr_matrix(wanted)
    kinds = [
        as_rows(vectors, 41),
        as_rows([list(vector.items()) for vector in vectors], 41),
        as_rows(matrix), as_rows(matrix.tocoo()), as_rows(matrix.tocsc()),
        as_rows((matrix.indptr, matrix.indices, matrix.data), 41),
    ]
    if vectors:
        kinds += [as_rows(torch.from_numpy(wanted)), as_rows(wanted),
                  as_rows(torch.from_numpy(wanted).to_sparse()),
                  as_rows(torch.from_numpy(wanted).to_sparse_csr())]
    for rows in kinds:
        assert (dense(rows) == wanted).all()
        assert rows.nnz == (wanted > 0).sum()
        assert all((np.diff(rows.row(i)[0].astype(int)) > 0).all() for i in range(rows.count))


def test_large_vocabularies_take_wider_terms():
    assert as_rows([[(65535, 1.0)]]).terms.dtype == np.uint16
    wide = as_rows([[(65536, 1.0), (3, 2.0)]])
    assert wide.terms.dtype == np.uint32
    assert wide.row(0)[0].tolist() == [3, 65536]


@given(VECTORS, st.data())
def test_take_is_a_slice(vectors, data):
    rows = as_rows(vectors, 41)
    first = data.draw(st.integers(0, rows.count))
    last = data.draw(st.integers(first, rows.count))
    assert (dense(rows.take(first, last)) == dense(rows)[first:last]).all()


@pytest.mark.parametrize(("given_rows", "says"), [
    ([[(1, -0.5)]], "Row 0 has a weight of -0.5"),
    ([[], [(1, float("nan"))]], "Row 1 has a weight of nan"),
    ([[(1, 1e39)]], "finite"),
    ([[(1, 1.0), (1, 2.0)]], "Row 0 has term 1 twice"),
    ([[(-3, 1.0)]], "Term -3 is out of range"),
    ([[(2**31, 1.0)]], "out of range"),
    ([[(2**70, 1.0)]], "out of range"),
    ([[(1.5, 1.0)]], "Row 0 is not a mapping"),
    ([["ab"]], "Row 0 is not a mapping"),
    ([3], "Row 0 is not a mapping"),
    ("text", "Cannot read sparse rows from str"),
    (None, "Cannot read sparse rows from NoneType"),
    (torch.ones(3), "Rows need a matrix"),
    ((np.array([0, 2]), np.array([1]), np.array([1.0])), "Row starts must rise"),
    ((np.array([0, 1]), np.array([1]), np.array([1.0, 2.0])), "1 terms but 2 weights"),
    ((np.array([0, 1]), np.array([1.0]), np.array([1.0])), "Terms must be integers"),
])
def test_what_is_not_rows_is_said_in_a_sentence(given_rows, says):
    with pytest.raises(DataError, match=says):
        as_rows(given_rows)


def test_terms_outside_a_given_vocabulary():
    with pytest.raises(DataError, match="Row 1 has term 9, outside the vocabulary of 9 terms"):
        as_rows([[(0, 1.0)], [(9, 1.0)]], 9)
    with pytest.raises(DataError, match="vocabulary of 0"):
        as_rows([], 0)
