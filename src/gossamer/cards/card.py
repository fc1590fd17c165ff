"""Card: what is claimed and what was seen for one published system, and the registry of them."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeVar

from gossamer.core.errors import ConfigError, unknown

# A family is listed here once it has systems; importing its `systems` package registers them.
FAMILIES = {
    "hardware": "gossamer.measure.hardware.systems",
    "prune": "gossamer.prune.systems",
    "retrieval": "gossamer.retrieval.systems",
}


@dataclass(frozen=True)
class Card:
    """The record of one system; documentation, command line and tests are rendered from it.

    Args:
        id: the name on the command line, such as ``sparsegpt``.
        family: the family's package, such as ``prune``.
        title: the method's name as its paper writes it.
        year: of the paper.
        paper: authors, venue and arXiv id.
        keeps: what is kept of what, in one line.
        reported: figures of the paper (never from memory).
        ours: figures measured by this library's evidence script.
        differs: where this implementation departs from the paper or its code, and why.
        needs: statistics that `observe` collects for it.
    """

    id: str
    family: str
    title: str
    year: int
    paper: str
    keeps: str
    reported: tuple[str, ...] = ()
    ours: tuple[str, ...] = ()
    differs: tuple[str, ...] = ()
    needs: tuple[str, ...] = ()


_SYSTEMS: dict[str, tuple[Card, type]] = {}
T = TypeVar("T", bound=type)


def system(card: Card) -> Callable[[T], T]:
    """Class decorator that registers a system (a frozen dataclass) under its card's id."""

    def register(cls: T) -> T:
        if card.family not in FAMILIES:
            raise ConfigError(unknown("family", card.family, FAMILIES))
        known = _SYSTEMS.get(card.id)
        if known is not None and _origin(known[1]) != _origin(cls):
            raise ConfigError(
                f"Two systems claim the id {card.id!r}: {_origin(known[1])} and {_origin(cls)}; "
                "give one of them another id."
            )
        _SYSTEMS[card.id] = (card, cls)
        cls.card = card  # type: ignore[attr-defined]
        return cls

    return register


def _origin(cls: type) -> str:
    return f"{cls.__module__}.{cls.__qualname__}"


def load_families() -> None:
    """Import every family so that its systems are registered."""
    for package in FAMILIES.values():
        importlib.import_module(package)


def cards(family: str | None = None) -> list[Card]:
    """All cards, or those of one family, ordered by family and id."""
    load_families()
    if family is not None and family not in FAMILIES:
        raise ConfigError(unknown("family", family, FAMILIES))
    found = [card for card, _ in _SYSTEMS.values() if family in (None, card.family)]
    return sorted(found, key=lambda card: (card.family, card.id))


def get_card(id: str) -> Card:
    """The card of one system; an unknown id names the nearest one."""
    return _entry(id)[0]


def get_system(id: str) -> Any:
    """The class of one system: a frozen dataclass with ``run(model, data)``."""
    return _entry(id)[1]


def _entry(id: str) -> tuple[Card, type]:
    load_families()
    if id not in _SYSTEMS:
        raise ConfigError(unknown("system", id, _SYSTEMS))
    return _SYSTEMS[id]
