"""The Markdown pages of the project and the code blocks in them."""

from __future__ import annotations

import re
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
GENERATED = ROOT / "docs" / "systems"
PAGES = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")])
WRITTEN = [page for page in PAGES if GENERATED not in page.parents]


def name(page: Path) -> str:
    """The page's path inside the checkout."""
    return page.relative_to(ROOT).as_posix()


def code_blocks(page: Path, language: str) -> list[str]:
    """Text of every fenced block of one language, in order."""
    text = page.read_text(encoding="utf-8")
    return re.findall(rf"^```{language}\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)


def commands(page: Path) -> list[list[str]]:
    """Words of every ``gossamer`` command line in the page's shell blocks, comments left out."""
    lines = [line for block in code_blocks(page, "sh") for line in block.splitlines()]
    plain = [line.split("#")[0].split() for line in lines]
    return [words[1:] for words in plain if words[:1] == ["gossamer"]]
