"""Importing: light, lazy, and only downwards."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

import gossamer

CHECKOUT = Path(__file__).resolve().parents[2]
HEAVY = {"transformers", "tokenizers", "triton", "matplotlib", "jinja2", "tyro", "rich", "gguf",
         "huggingface_hub", "scipy", "sklearn", "onnxruntime", "openvino", "ray",
         "fastapi", "Stemmer"}
ROOMS = ["data", "edit", "evidence", "jobs", "layout", "measure", "models", "observe", "ops",
         "planted", "prune", "retrieval", "store", "testing"]


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


def test_no_room_loads_an_optional_package_or_touches_a_gpu() -> None:
    loaded = loaded_by(
        f"import gossamer\nfor room in {ROOMS}: getattr(gossamer, room)\n"
        "assert not torch.cuda.is_initialized()"
    )
    assert {f"gossamer.{room}" for room in ROOMS} <= loaded
    assert not {name.split(".")[0] for name in loaded} & HEAVY


def test_rooms_are_listed_and_nothing_else_is_one() -> None:
    assert set(ROOMS) | {"core", "cards"} <= set(dir(gossamer))
    assert not hasattr(gossamer, "nonsense")


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
    # Under another name, because an installed gossamer would be found first.
    source = CHECKOUT / "src" / "gossamer"
    for path in [*source.rglob("*.py"), CHECKOUT / ".importlinter"]:
        inside = source in path.parents
        copy = tmp_path / (Path("mirror") / path.relative_to(source) if inside else path.name)
        copy.parent.mkdir(parents=True, exist_ok=True)
        copy.write_text(path.read_text(encoding="utf-8").replace("gossamer", "mirror"), "utf-8")
    assert contract(tmp_path).returncode == 0
    with (tmp_path / "mirror" / "core" / "keep.py").open("a", encoding="utf-8") as file:
        file.write("\n\ndef late() -> None:\n    from mirror.store import save\n    save()\n")
    done = contract(tmp_path)
    assert done.returncode == 1
    assert "mirror.core.keep -> mirror.store" in done.stdout
