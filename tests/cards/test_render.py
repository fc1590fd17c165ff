"""Reference pages: complete, readable, and the same as those in docs/systems."""

from __future__ import annotations

from dataclasses import MISSING, dataclass, field
from pathlib import Path
from typing import Annotated, Literal

import annotated_types as at
import pytest

from gossamer.cards import Card
from gossamer.cards.parameters import parameters
from gossamer.cards.render import main, reference_pages, system_page, write_pages

CARD = Card("toy", "prune", "Toy", 2024, "Nobody. Nowhere.", "a few of many weights")


@dataclass(frozen=True)
class Toy:
    """Keep a few."""

    density: Annotated[float, at.Interval(gt=0, le=1), "share kept"]
    bits: Annotated[Literal[2, 4] | None, "bits of | the kept"] = None
    blocks: Annotated[int, at.Ge(1)] = 8
    names: tuple[str, ...] = field(default_factory=lambda: ("a",))


def test_fields_become_parameters() -> None:
    density, bits, blocks, names = parameters(Toy)
    assert (density.type, density.default, density.domain) == (float, MISSING, "number, > 0, <= 1")
    assert density.meaning == "share kept"
    assert (bits.default, bits.domain) == (None, "2 | 4")
    assert (blocks.default, blocks.domain, blocks.meaning) == (8, "whole number, >= 1", "")
    assert names.default == ("a",)


def test_a_page_says_what_is_not_known() -> None:
    page = system_page(CARD, Toy)
    assert "Implemented, not measured." in page
    assert "| `density` | required | number, > 0, <= 1 | share kept |" in page
    assert "| `bits` | `None` | 2 \\| 4 | bits of \\| the kept |" in page


def test_the_pages_in_the_documentation_are_up_to_date(checkout: Path) -> None:
    folder = checkout / "docs" / "systems"
    written = {path.name: path.read_text(encoding="utf-8") for path in folder.glob("*.md")}
    assert written == reference_pages(), "run `make docs`"


def test_pages_of_systems_that_are_gone_are_removed(tmp_path: Path) -> None:
    write_pages({"a.md": "a", "b.md": "b"}, tmp_path)
    write_pages({"b.md": "c"}, tmp_path)
    assert {path.name: path.read_text() for path in tmp_path.iterdir()} == {"b.md": "c"}


def test_the_command_writes_the_pages(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([str(tmp_path / "pages")]) == 0
    assert (tmp_path / "pages" / "README.md").is_file()
    assert main([]) == 2
    assert "usage" in capsys.readouterr().err
