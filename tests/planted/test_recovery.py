"""Recovery metrics against their definitions."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from gossamer.core import DataError, Support, SupportError
from gossamer.planted import recovery, relative_output_error

flags = st.lists(st.tuples(st.booleans(), st.booleans()), min_size=1, max_size=40)


@given(flags)
def test_precision_recall_and_f1(drawn: list[tuple[bool, bool]]) -> None:
    found, truth = (Support.of(torch.tensor([[pair[i] for pair in drawn]])) for i in range(2))
    hits = sum(a and b for a, b in drawn)
    wrong, missed = sum(a and not b for a, b in drawn), sum(b and not a for a, b in drawn)
    seen = recovery(found, truth)
    assert seen.precision == (hits / (hits + wrong) if hits + wrong else 1)
    assert seen.recall == (hits / (hits + missed) if hits + missed else 1)
    if hits:
        assert seen.f1 == pytest.approx(2 * hits / (2 * hits + wrong + missed))
    elif wrong and missed:
        assert seen.f1 == 0


def test_the_output_error_is_that_of_the_outputs() -> None:
    dense, pruned, x = torch.randn(5, 8), torch.randn(5, 8), torch.randn(100, 8)
    expected = ((dense - pruned) @ x.t()).square().sum() / (dense @ x.t()).square().sum()
    gram = x.t() @ x
    assert relative_output_error(dense, pruned, gram) == pytest.approx(float(expected), rel=1e-5)
    assert relative_output_error(dense, pruned, 7 * gram) == pytest.approx(float(expected))
    assert relative_output_error(dense, dense, gram) == 0
    assert relative_output_error(dense, 0 * dense, gram) == pytest.approx(1)


def test_shapes_must_fit() -> None:
    with pytest.raises(DataError, match="Gram"):
        relative_output_error(torch.ones(2, 3), torch.ones(2, 3), torch.ones(2, 2))
    with pytest.raises(DataError, match="one shape"):
        relative_output_error(torch.ones(2, 3), torch.ones(3, 3), torch.ones(3, 3))
    with pytest.raises(SupportError, match="does not fit"):
        recovery(Support.full(2, 2), Support.full(3, 3))
