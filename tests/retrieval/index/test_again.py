"""A document that comes again under its old id, in the same part as its deleted self."""

from __future__ import annotations

from typing import Any

import pytest

from gossamer.core import DataError
from gossamer.retrieval import SparseIndex


@pytest.mark.parametrize("ids", [["a", "b", "c"], [7, 8, 9]])
def test_the_living_one_is_found(ids: list[Any]) -> None:
    index = SparseIndex.build([{0: 1.0}], ids=ids[:1])
    index.add([{1: 2.0}, {1: 1.0}], ids=ids[1:])
    assert index.search([{1: 1.0}]).ids == [ids[1:]]
    last = ids[2]
    for weight in (9.0, 8.0, 7.0):
        index.update([{1: weight}], [last])
        assert index.search([{1: 1.0}]).ids == [[last, ids[1]]]
        assert last in index
        assert index.explain({1: 1.0}, last).score == weight
    with pytest.raises(DataError, match="there already"):
        index.add([{1: 1.0}], ids=[last])
    assert index.delete([last]) == 1
    assert last not in index
