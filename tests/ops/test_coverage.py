"""The page of what each layout supports names what is registered."""

from __future__ import annotations

from pathlib import Path

import pytest

from gossamer.layout import LAYOUTS
from gossamer.ops.coverage import main, page
from gossamer.ops.linear.kernels import KERNELS


def test_every_layout_and_kernel_stands_on_the_page(checkout: Path) -> None:
    written = (checkout / "docs" / "layouts.md").read_text()
    for text in (page(), written):
        assert all(f"| {name} | " in text for name in LAYOUTS)
    assert all(name in page() for name in KERNELS.all)


def test_the_command(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([str(tmp_path / "page.md")]) == 0
    assert (tmp_path / "page.md").read_text() == page()
    assert main([]) == 2
    assert "usage" in capsys.readouterr().err
