"""``gossamer systems`` and ``gossamer show``."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from typing import Annotated

import tyro
from rich.markdown import Markdown
from rich.table import Table

from gossamer.cards import cards, get_card, get_system
from gossamer.cards.render import system_page
from gossamer.cli.terminal import console


@dataclass(frozen=True)
class Systems:
    """List the systems: what each keeps of what, its paper, and what was measured."""

    family: Annotated[
        str | None, tyro.conf.arg(metavar="FAMILY", help="only this family")
    ] = None


@dataclass(frozen=True)
class Show:
    """Everything known of one system: parameters, reported and own figures, differences."""

    id: Annotated[
        tyro.conf.Positional[str], tyro.conf.arg(metavar="ID", help="such as sparsegpt")
    ]


def run_systems(arguments: list[str]) -> int:
    """Print the table of systems."""
    options = tyro.cli(Systems, args=arguments, prog="gossamer systems")
    table = Table(title=None)
    for name in ("id", "family", "keeps", "paper", "measured here"):
        table.add_column(name, no_wrap=name == "id")
    for card in cards(options.family):
        ours = card.ours[0] if card.ours else "implemented, not measured"
        table.add_row(card.id, card.family, card.keeps, card.paper, ours)
    console().print(table)
    return 0


def run_show(arguments: list[str]) -> int:
    """Print the reference page of one system: Markdown, set where there is a terminal."""
    options = tyro.cli(Show, args=arguments, prog="gossamer show")
    page = system_page(get_card(options.id), get_system(options.id))
    screen = console()
    if screen.is_terminal:
        screen.print(Markdown(page))
    else:
        sys.stdout.write(page)
    return 0
