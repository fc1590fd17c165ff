"""Reference pages of the systems, written from their cards and fields.

``python -m gossamer.cards.render FOLDER`` writes one Markdown page a system and an index.
"""

from __future__ import annotations

import dataclasses
import doctest
import inspect
import sys
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from gossamer.cards.card import Card, cards, get_system
from gossamer.cards.parameters import Parameter, parameters
from gossamer.core.errors import GossamerError

_INDEX = "README.md"


def system_page(card: Card, system: type) -> str:
    """The Markdown page of one system."""
    fields = parameters(system)
    prunes = any(field.name == "density" for field in fields)
    sections = [
        f"# {card.title}",
        f"`{card.id}`, family {card.family}, {card.year}. {card.paper}",
        f"**Keeps** {card.keeps}",
        _prose(system),
        "## Parameters\n\n" + _parameter_table(fields),
        "## Reported\n\n" + _bullets(card.reported, "Nothing is quoted from the paper."),
        "## Ours\n\n" + _bullets(card.ours, "Implemented, not measured."),
        "## Where ours differs\n\n" + _bullets(card.differs, "Nowhere that is known."),
        "## Needs\n\n" + _bullets(card.needs, "The weights alone."),
        "## Run it\n\n" + _recipe(card, system, prunes),
    ]
    return "\n\n".join(section for section in sections if section.strip()) + "\n"


def index_page(found: Iterable[Card]) -> str:
    """The Markdown table of all systems."""
    rows = [f"| [{c.id}]({c.id}.md) | {c.family} | {_cell(c.keeps)} | {c.paper} |" for c in found]
    head = ["# Systems", "", "| id | family | keeps | paper |", "|---|---|---|---|"]
    note = ["", "Written by `make docs` from the cards and fields in the source; edit those."]
    return "\n".join([*head, *rows, *note]) + "\n"


def reference_pages() -> dict[str, str]:
    """Text of every reference page by file name."""
    found = cards()
    pages = {f"{card.id}.md": system_page(card, get_system(card.id)) for card in found}
    return {_INDEX: index_page(found), **pages}


def write_pages(pages: Mapping[str, str], folder: Path) -> None:
    """Write the pages and remove those of systems that are gone."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, text in pages.items():
        (folder / name).write_text(text, encoding="utf-8")
    for old in folder.glob("*.md"):
        if old.name not in pages:
            old.unlink()


def _parameter_table(found: Iterable[Parameter]) -> str:
    rows = [
        f"| `{p.name}` | {_default(p.default)} | {_cell(p.domain)} | {_cell(p.meaning)} |"
        for p in found
    ]
    return "\n".join(["| name | default | allowed | meaning |", "|---|---|---|---|", *rows])


def _prose(system: type) -> str:
    """The docstring up to its examples."""
    return inspect.cleandoc(system.__doc__ or "").split(">>>")[0].strip()


def _default(value: Any) -> str:
    return "required" if value is dataclasses.MISSING else f"`{value}`"


def _cell(text: str) -> str:
    return text.replace("|", "\\|")


def _bullets(lines: Iterable[str], otherwise: str) -> str:
    return "\n".join(f"- {line}" for line in lines) or otherwise


def _recipe(card: Card, system: type, prunes: bool) -> str:
    if card.family == "retrieval":
        examples = doctest.DocTestParser().get_examples(inspect.cleandoc(system.__doc__ or ""))
        source = "".join(example.source for example in examples) or (
            f'from gossamer.cards import get_system\n\nsystem = get_system("{card.id}")()\n')
        return (f"```sh\ngossamer show {card.id}\ngossamer evidence {card.id}\n```\n\n"
                f"```python\n{source}```")
    if card.family == "hardware":
        command, call = f"predict MODEL --device {card.id} --density 0.1", "().run(model)"
    elif prunes:
        command = f"prune MODEL --system {card.id} --density 0.5 --out DIR"
        call = "(density=0.5).run(model, tokens)"
    elif any("images" in need for need in card.needs):
        command, call = f"show {card.id}", "().run(model, (images, labels))"
    else:
        command, call = "inspect DIR", "().run(model)"
    return (
        f"```sh\ngossamer {command}\ngossamer evidence {card.id}\n```\n\n"
        "```python\nfrom gossamer.cards import get_system\n\n"
        f'result = get_system("{card.id}"){call}\n```'
    )


def main(arguments: list[str]) -> int:
    """Write the pages into the folder named on the command line; the exit code."""
    if len(arguments) != 1:
        sys.stderr.write("usage: python -m gossamer.cards.render FOLDER\n")
        return 2
    try:
        write_pages(reference_pages(), Path(arguments[0]))
    except (GossamerError, OSError) as error:
        sys.stderr.write(f"{error}\n")
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
