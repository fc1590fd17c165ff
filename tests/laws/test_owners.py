"""Only `edit` changes a model for good: nobody else registers hooks or sets submodules."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

SOURCE = Path(__file__).resolve().parents[2] / "src" / "gossamer"

# Hooks: observe takes its own away again; that of models is no model's, it redirects the
# parameters of a model that is being built and lasts as long as a with statement.
HOOKS = ("edit", "observe", "models/meta.py")
# Attributes set by name: these set tensors of a model that is being loaded, or their own fields.
ATTRIBUTES = ("edit/swap.py", "edit/unpacked.py", "models/checkpoint.py", "store/fill.py",
              "prune/parts/sparsellm.py")
MODULES = {"_modules", "set_submodule", "add_module", "register_module", "register_parametrization"}


def called(path: Path) -> set[str]:
    """Names of all functions and methods that a file calls, and of tables it writes to."""
    names = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Call):
            names.add(getattr(node.func, "attr", getattr(node.func, "id", "")))
        if isinstance(node, ast.Subscript) and isinstance(node.ctx, ast.Store | ast.Del):
            names.add(getattr(node.value, "attr", ""))
    return names


def within(name: str, rooms: tuple[str, ...]) -> bool:
    return any(name == room or name.startswith(f"{room}/") for room in rooms)


def files() -> list[tuple[str, Path]]:
    return [(path.relative_to(SOURCE).as_posix(), path) for path in sorted(SOURCE.rglob("*.py"))]


def offenders(room: list[tuple[str, Path]]) -> list[str]:
    """``file: call`` for everything that only `edit` may do."""
    found = []
    for name, path in room:
        for call in sorted(called(path)):
            hook = call.startswith("register_") and call.endswith("_hook")
            if (hook or call == "register_hook") and not within(name, HOOKS):
                found.append(f"{name}: {call}")
            if call in MODULES and not within(name, ("edit",)):
                found.append(f"{name}: {call}")
            if call == "setattr" and not within(name, ATTRIBUTES):
                found.append(f"{name}: {call}")
    return found


def test_only_edit_changes_a_model() -> None:
    assert files()
    assert offenders(files()) == []


def test_observe_takes_away_what_it_registers() -> None:
    for name, path in files():
        if within(name, HOOKS) and any(call.startswith("register_") for call in called(path)):
            assert "remove" in path.read_text(encoding="utf-8"), name


@pytest.mark.parametrize("line", [
    "layer.register_forward_hook(print)", "weight.register_hook(print)",
    "optimizer.register_step_post_hook(print)", "model.set_submodule('a', b)",
    "parametrize.register_parametrization(layer, 'weight', x)", "setattr(parent, name, layer)",
    "model._modules['a'] = layer", "del model._modules['a']",
    "register_module_forward_hook(print)", "model.add_module('a', b)",
])
def test_an_offender_is_found(tmp_path: Path, line: str) -> None:
    path = tmp_path / "wild.py"
    path.write_text(f"def change(model):\n    {line}\n", encoding="utf-8")
    assert len(offenders([("prune/wild.py", path)])) == 1
    assert offenders([("prune/wild.py", path)])[0].startswith("prune/wild.py: ")
