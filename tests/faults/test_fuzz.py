"""Damaged matrices and folders end in a GossamerError or in the right numbers, never in a crash.

``make fuzz`` runs many more; every number is another case.
"""

from __future__ import annotations

import random

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from gossamer.layout import LAYOUTS, Packed
from tests.faults import fuzz_parts
from tests.faults.fuzz import findings


@pytest.mark.parametrize("kind", ["parts", "folders"])
def test_no_case_is_a_finding(kind: str) -> None:
    assert list(findings(kind, 0, 1000 if kind == "parts" else 200)) == []


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["parts", "folders"])
def test_no_case_of_many_is_a_finding(kind: str) -> None:
    assert list(findings(kind, 1000, 20_000 if kind == "parts" else 3_000)) == []


def test_cases_reach_every_layout_and_products_that_succeed() -> None:
    cases = [fuzz_parts.whole(random.Random(seed)) for seed in range(300)]
    assert {case.layout for case in cases} == set(LAYOUTS)
    assert all(fuzz_parts.verdict(case) is None for case in cases[:60])


def test_the_judge_sees_a_wrong_number() -> None:
    case = next(case for seed in range(50) if (
        case := fuzz_parts.whole(random.Random(seed))).layout == "csr" and case.x.shape[0] == 1)
    packed = Packed(case.layout, case.shape, case.parts)
    right = case.x.double() @ torch.zeros(case.shape, dtype=torch.float64).t()
    assert fuzz_parts._differs(right.float(), case.x.double(), packed, None) is not None


@given(seed=st.integers(100_000, 1 << 40))
@settings(max_examples=150, deadline=None)
def test_any_number_is_no_finding(seed: int) -> None:
    assert fuzz_parts.run(seed) is None
