"""Pattern: parsing, round trips and errors that name the layer."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gossamer.core import (
    Pattern,
    PatternError,
    block,
    columns,
    nm,
    parse_pattern,
    rows,
    unstructured,
)

named = st.one_of(
    st.just(unstructured()), st.just(rows()), st.builds(columns, st.integers(1, 999)),
    st.integers(1, 64).flatmap(lambda m: st.builds(nm, st.integers(1, m), st.just(m))),
    st.builds(block, st.integers(1, 64), st.integers(2, 64)),
)


@given(named)
def test_text_reads_back_as_the_same_pattern(pattern: Pattern) -> None:
    assert parse_pattern(str(pattern)) == pattern
    assert parse_pattern(f" {str(pattern).upper()} ") == pattern


def test_other_patterns_have_a_text_of_their_own() -> None:
    others = [Pattern(pool=(4, None)), Pattern(pool=(2, 4), exact=3), Pattern((4, 4), (8, None))]
    assert [str(p) for p in others] == ["1x1 in 4xall", "3 of 1x1 in 2x4", "4x4 in 8xall"]


@pytest.mark.parametrize(("text", "message"), [
    ("rwos", "did you mean 'rows'"), ("2;4", "did you mean '2:4'"), ("2:4:", "'2:4:8'"),
    ("banana", "choose one of"), ("", "choose one of"), ("4:2", "4:2.*N must lie in 1..M"),
    ("0:4", "0:4.*N must lie in 1..M"), ("2:0", "2:0.*N must lie"), ("0x4", "at least 1"),
    ("columns0", "positive multiple"), ("-2:4", "'2:4'"),
])
def test_texts_that_mean_nothing(text: str, message: str) -> None:
    with pytest.raises(PatternError, match=message):
        parse_pattern(text)


def test_pools_and_counts_fit_the_unit() -> None:
    with pytest.raises(PatternError, match="positive multiple of the unit side 4, not 6"):
        Pattern(unit=(4, 4), pool=(6, None))
    with pytest.raises(PatternError, match="fixed size"):
        Pattern(exact=2)
    with pytest.raises(PatternError, match="Cannot keep 5 of 4"):
        Pattern(unit=(2, 2), pool=(4, 4), exact=5)


def test_a_pattern_that_does_not_fit_names_the_layer() -> None:
    where = "model.layers.3.mlp.up_proj.weight"
    with pytest.raises(PatternError, match=rf"^{where}: width 6 is not a multiple of M=4"):
        nm(2, 4).fits(8, 6, where)
    with pytest.raises(PatternError, match=rf"^{where}: blocks of 16x16 do not tile 8x32"):
        block(16, 16).fits(8, 32, where)
    with pytest.raises(PatternError, match=rf"^{where}: groups of 2x4 do not tile 3x4"):
        Pattern(pool=(2, 4), exact=3).fits(3, 4, where)
    for pattern in (unstructured(), rows(), columns(7), nm(2, 4), block(2, 2)):
        pattern.fits(6, 8, where)


def test_density_is_known_only_where_the_pattern_fixes_it() -> None:
    assert nm(2, 4).density == 0.5
    assert Pattern(unit=(2, 2), pool=(4, 4), exact=3).density == 0.75
    assert rows().density is None
    assert nm(1, 4).is_nm
    assert not block(1, 4).is_nm
