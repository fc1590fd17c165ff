"""House rules that a linter does not know: sizes, names, and what text must not say."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
SOURCES = sorted((ROOT / "src" / "gossamer").rglob("*.py"))
NATIVE = sorted(path for kind in ("*.cpp", "*.h") for path in (ROOT / "src").rglob(kind))
MOST_LINES, MOST_BODY = 400, 40


def name(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


def body_lines(function: ast.FunctionDef | ast.AsyncFunctionDef) -> int:
    """Lines of a function's body, its signature and docstring left out."""
    documented = ast.get_docstring(function) is not None and len(function.body) > 1
    first = function.body[1 if documented else 0]
    return (function.end_lineno or first.lineno) - first.lineno + 1


def registers_an_operator(node: ast.FunctionDef | ast.ClassDef) -> bool:
    """True for ``@torch.library.custom_op(...)``, whose schema takes the place of a docstring."""
    return any(isinstance(d, ast.Call) and getattr(d.func, "attr", "") == "custom_op"
               for d in node.decorator_list)


@pytest.mark.parametrize("path", [*SOURCES, *NATIVE], ids=name)
def test_files_are_short_and_well_named(path: Path) -> None:
    assert len(path.read_text(encoding="utf-8").splitlines()) <= MOST_LINES
    assert path.stem not in ("utils", "helpers", "base", "misc", "common")


@pytest.mark.parametrize("path", SOURCES, ids=name)
def test_functions_are_short_and_modules_say_what_they_are(path: Path) -> None:
    tree = ast.parse(path.read_text(encoding="utf-8"))
    assert ast.get_docstring(tree)
    kinds = (ast.FunctionDef, ast.AsyncFunctionDef)
    functions = [node for node in ast.walk(tree) if isinstance(node, kinds)]
    long = {f.name: body_lines(f) for f in functions if body_lines(f) > MOST_BODY}
    assert not long
    public = [f for f in tree.body if isinstance(f, (ast.FunctionDef, ast.ClassDef))
              and not f.name.startswith("_") and not registers_an_operator(f)]
    assert not [f.name for f in public if ast.get_docstring(f) is None]


@pytest.mark.parametrize("path", SOURCES, ids=name)
def test_nothing_is_swallowed_or_left_open(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    forbidden = r"# *noqa|\bTODO\b|\bFIXME\b|raise NotImplementedError"
    assert not re.findall(forbidden, text)
    caught = [n for n in ast.walk(ast.parse(text)) if isinstance(n, ast.ExceptHandler)]
    broad = [n.lineno for n in caught
             if n.type is None or getattr(n.type, "id", "") in ("Exception", "BaseException")]
    assert not broad
