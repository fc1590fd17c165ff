"""The guide's layout and operator: short, whole, and as good as those of the house."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from gossamer.core import Keep, SupportError, block, select
from gossamer.layout import LAYOUTS, Packed, pack, register
from gossamer.ops import PackedLinear, explain, linear
from gossamer.ops.linear import register as register_kernel
from gossamer.testing import check_layer, check_layout
from tests.docs.pages import ROOT, code_blocks

BLOCKS = code_blocks(ROOT / "docs" / "guide" / "new-layout.md", "python")


@pytest.fixture(scope="module")
def guide() -> dict[str, Any]:
    space: dict[str, Any] = {"__name__": "guide"}
    exec(compile("\n".join(BLOCKS[:2]), "new-layout.md", "exec"), space)
    return space


def test_a_layout_and_its_operator_take_less_than_sixty_lines() -> None:
    lines = [line for text in BLOCKS[:2] for line in text.splitlines() if line.strip()]
    assert len(lines) < 60
    assert max(len(line) for text in BLOCKS for line in text.splitlines()) <= 100


def test_nothing_is_registered_by_the_definitions(guide: dict[str, Any]) -> None:
    assert "columns" not in LAYOUTS


def test_it_passes_the_suites(guide: dict[str, Any]) -> None:
    weight = torch.randn(8, 16)
    support = select(weight.abs(), block(8, 1), Keep.fraction(0.25))
    dense = support.apply(weight).double()
    with register(guide["COLUMNS"]):
        check_layout(guide["COLUMNS"])
        packed = pack(weight, support, "columns")
        x = torch.randn(4, 16)
        check_layer(PackedLinear(packed, torch.ones(8)), lambda x: x @ dense.t() + 1, x)
        with register_kernel(guide["GATHER"]):
            assert explain(x, packed).startswith("gather for columns")
            check_layer(PackedLinear(packed, torch.ones(8)), lambda x: x @ dense.t() + 1, x)
        columns = torch.full((4,), 16).to(torch.uint16)
        damaged = Packed("columns", (8, 16), {**packed.parts, "columns": columns})
        with pytest.raises(SupportError, match="names column 16"):
            linear(x, damaged)


def test_the_fallback_is_named(guide: dict[str, Any]) -> None:
    with register(guide["COLUMNS"]):
        packed = pack(torch.ones(4, 4), layout="columns")
        assert explain(torch.ones(1, 4), packed).endswith("there is no kernel for layout columns")
