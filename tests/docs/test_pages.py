"""What the documentation shows works: examples run, commands parse, links lead somewhere."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import torch
import tyro

from gossamer.cards import cards, get_system
from gossamer.cli import main
from gossamer.models.mobilenet import SMALL, MobileNet
from tests.docs.pages import GENERATED, PAGES, ROOT, WRITTEN, code_blocks, commands, name
from tests.zoo import llama, tiny_tokenizer


class ParsedError(Exception):
    """Raised in place of running a command whose options were understood."""


@pytest.fixture(scope="module")
def tiny_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny Llama with its tokenizer, in the Hugging Face format."""
    folder = tmp_path_factory.mktemp("tiny")
    torch.manual_seed(0)
    llama().save_pretrained(folder)
    tiny_tokenizer().save_pretrained(folder)
    return folder


RUNNABLE = [page for page in WRITTEN
            if code_blocks(page, "python") and page.name != "CONTRIBUTING.md"]


@pytest.mark.parametrize("page", RUNNABLE, ids=name)
def test_python_examples_run_in_order(
    page: Path, tiny_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    source = "\n".join(code_blocks(page, "python"))
    source = source.replace('"smollm2"', repr(str(tiny_folder)))
    exec(compile(source, name(page), "exec"), {"__name__": "example"})


@pytest.mark.parametrize("card", cards(), ids=lambda card: card.id)
def test_the_recipe_on_a_reference_page_runs(card) -> None:
    (source,) = code_blocks(GENERATED / f"{card.id}.md", "python")
    tokens = torch.randint(0, 256, (4, 32))
    space = {"model": llama(), "tokens": tokens}
    if "images" in source:
        space = {"model": MobileNet(4, 0.5, SMALL[:1], channels=1),
                 "images": torch.randn(8, 1, 4, 4), "labels": torch.arange(8) % 4}
    exec(compile(source, card.id, "exec"), space)
    if "density=0.5" in source:
        assert space["result"].density == pytest.approx(0.5, abs=0.01)
    elif card.family == "hardware":
        assert space["result"].speedup > 1
    elif "images" in source:
        kept = 1 - get_system(card.id)().sparsity
        assert space["result"].density == pytest.approx(kept, abs=0.03)
    elif card.family == "retrieval":
        assert get_system(card.id).__name__ in space or isinstance(
            space["system"], get_system(card.id))
    else:
        assert space["result"].checks


# CONTRIBUTING shows a system that is not in the registry; test_add_a_system runs that one.
LINES = [pytest.param(words, id=f"{name(page)}: {' '.join(words)}")
         for page in PAGES if page.name != "CONTRIBUTING.md" for words in commands(page)]


@pytest.mark.parametrize("words", LINES)
def test_command_lines_are_understood(words: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    understand = tyro.cli

    def parse_only(*given, **named) -> None:
        understand(*given, **named)
        raise ParsedError

    monkeypatch.setattr(tyro, "cli", parse_only)
    with pytest.raises(ParsedError):
        main(words)


@pytest.mark.parametrize("page", PAGES, ids=name)
def test_links_lead_to_files(page: Path) -> None:
    text = re.sub(r"^```.*?^```$", "", page.read_text(encoding="utf-8"), flags=re.M | re.S)
    targets = re.findall(r"\]\(([^)#\s]+)(?:#[^)]*)?\)", text)
    local = [target for target in targets if "://" not in target]
    missing = [target for target in local if not (page.parent / target).exists()]
    assert not missing


def test_make_targets_that_pages_name_exist() -> None:
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    named = {target for page in PAGES
             for target in re.findall(r"\bmake ([a-z]+)\b", " ".join(code_blocks(page, "sh")))}
    assert named
    for target in named:
        assert re.search(rf"^{target}:", makefile, re.MULTILINE)
