"""Importing: light, lazy, and only downwards."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

CHECKOUT = Path(__file__).resolve().parents[2]
HEAVY = {"transformers", "tokenizers", "triton", "matplotlib", "jinja2", "tyro", "rich", "gguf",
         "huggingface_hub", "scipy", "sklearn", "onnxruntime", "openvino", "ray"}
ROOMS = ["data", "edit", "evidence", "jobs", "layout", "measure", "models", "observe", "ops",
         "planted", "prune", "store", "testing"]


def loaded_by(statement: str) -> set[str]:
    """Modules that a statement loads into a fresh interpreter that already holds torch."""
    code = (
        "import json, sys, torch, numpy, annotated_types\n"
        f"before = set(sys.modules)\n{statement}\n"
        "print(json.dumps(sorted(set(sys.modules) - before)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return set(json.loads(done.stdout.splitlines()[-1]))


def test_importing_gossamer_loads_core_and_cards_alone() -> None:
    loaded = loaded_by("import gossamer")
    own = {name for name in loaded if name.split(".")[0] == "gossamer"}
    assert {"gossamer.core.select", "gossamer.cards.card"} <= own
    assert {name.split(".")[1] for name in own - {"gossamer"}} == {"core", "cards"}
    foreign = {name.split(".")[0] for name in loaded - own} - set(sys.stdlib_module_names)
    assert not foreign


def test_no_room_loads_an_optional_package() -> None:
    loaded = loaded_by("import gossamer\nfor room in " + repr(ROOMS) + ": getattr(gossamer, room)")
    assert {f"gossamer.{room}" for room in ROOMS} <= loaded
    assert not {name.split(".")[0] for name in loaded} & HEAVY


def test_importing_touches_no_gpu() -> None:
    loaded_by(
        "import gossamer, gossamer.ops, gossamer.prune\n"
        "assert not torch.cuda.is_initialized()"
    )


def test_unknown_attributes_are_no_rooms() -> None:
    loaded_by(
        "import gossamer\n"
        "assert not hasattr(gossamer, 'nonsense')\n"
        "assert set(gossamer._ROOMS) <= set(dir(gossamer))"
    )


def contract(folder: Path) -> subprocess.CompletedProcess[str]:
    run = "from importlinter.cli import lint_imports_command as run; run()"
    return subprocess.run([sys.executable, "-c", run, "--no-cache"], cwd=folder,
                          capture_output=True, text=True, check=False)


def test_imports_go_down_only() -> None:
    pytest.importorskip("importlinter")
    done = contract(CHECKOUT)
    assert done.returncode == 0, done.stdout + done.stderr


def test_an_upward_import_is_found(tmp_path: Path) -> None:
    pytest.importorskip("importlinter")
    shutil.copytree(CHECKOUT / "src" / "gossamer", tmp_path / "gossamer",
                    ignore=shutil.ignore_patterns("__pycache__", "*.so"))
    shutil.copy(CHECKOUT / ".importlinter", tmp_path)
    with (tmp_path / "gossamer" / "core" / "keep.py").open("a", encoding="utf-8") as file:
        file.write("\n\ndef late() -> None:\n    from gossamer.store import save\n    save()\n")
    done = contract(tmp_path)
    assert done.returncode == 1
    assert "gossamer.core.keep -> gossamer.store" in done.stdout
