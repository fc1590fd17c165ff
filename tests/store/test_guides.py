"""The examples in the guides run as they stand."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from gossamer.store import inspect, lints
from tests.store.pruned import mlp

DOCS = Path(__file__).resolve().parents[2] / "docs"


@pytest.mark.parametrize("page", ["format.md", "guide/ten-lessons.md"])
def test_examples_of(page: str, capsys: pytest.CaptureFixture[str]) -> None:
    text = (DOCS / page).read_text(encoding="utf-8")
    blocks = re.findall(r"^```python\n(.*?)^```", text, re.DOTALL | re.MULTILINE)
    assert blocks
    exec(compile("\n".join(blocks), page, "exec"), {"__name__": "guide"})
    capsys.readouterr()


def test_the_guide_lists_every_check() -> None:
    text = (DOCS / "guide" / "ten-lessons.md").read_text(encoding="utf-8")
    listed = set(re.findall(r"^\| `([a-z-]+)` \|", text, re.MULTILINE))
    known = {check.id for check in inspect(mlp()).checks}
    known.add(lints.method_label("dense", [1], 1, 0).id)
    known.add(lints.fair_comparison([{"system": "a"}, {"system": "b"}]).id)
    assert listed == known
