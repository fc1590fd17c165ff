"""The worked example of CONTRIBUTING.md, run as a contributor would run it."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from tests.docs.pages import ROOT, code_blocks

# A process of its own: the registry of systems must not keep the example.
DRIVER = """
import sys, torch
import ria
from gossamer.cards import get_system
from gossamer.cli import main
from gossamer.cli.settings import settings_type
from gossamer.observe import Stats
from gossamer.testing import check_transform
from tests.zoo import llama


def model():
    torch.manual_seed(0)
    return llama()


stats = Stats("w", frozenset({"input_sq"}))
stats.add(torch.tensor([[1.0, 4.0]]))
score = ria.importance(0.5, torch.tensor([[1.0, 3.0], [3.0, 1.0]]), stats)
assert score.tolist() == [[0.5, 3.0], [1.5, 1.0]], score  # (1/4 + 1/4) 1, (3/4 + 3/4) 2, ...

tokens = torch.randint(0, 256, (2, 16))
result = get_system("ria")(density=0.5, power=0.3).run(llama(), tokens)
assert result.density == 0.5, result.density
nm = get_system("ria")(pattern="2:4").run(llama(), tokens)
for support in nm.supports.values():
    assert bool((support.mask().unflatten(1, (-1, 4)).sum(-1) == 2).all())
check_transform(get_system("ria")(density=0.5), model, tokens)
assert "power" in settings_type("ria").__dataclass_fields__
assert main(["show", "ria"]) == 0
assert main(["prune", "none", "--system", "ria", "--power", "2", "--out", "out"]) == 2
"""


def test_the_example_system_works_from_one_file(tmp_path: Path) -> None:
    (example,) = code_blocks(ROOT / "CONTRIBUTING.md", "python")
    (tmp_path / "ria.py").write_text(example, encoding="utf-8")
    (tmp_path / "driver.py").write_text(DRIVER, encoding="utf-8")
    run = subprocess.run(
        [sys.executable, str(tmp_path / "driver.py")], capture_output=True, text=True,
        cwd=tmp_path, env={"PYTHONPATH": str(ROOT), "PATH": "/usr/bin:/bin"}, check=False,
    )
    assert run.returncode == 0, run.stderr
    assert "# RIA" in run.stdout
    assert "Ria.power must be at most 1, not 2" in run.stderr


def test_the_example_follows_the_linter(tmp_path: Path) -> None:
    (example,) = code_blocks(ROOT / "CONTRIBUTING.md", "python")
    path = tmp_path / "ria.py"
    path.write_text(example, encoding="utf-8")
    rules = str(ROOT / "pyproject.toml")
    run = subprocess.run(
        [sys.executable, "-m", "ruff", "check", "--config", rules, str(path)],
        capture_output=True, text=True, check=False,
    )
    assert run.returncode == 0, run.stdout
