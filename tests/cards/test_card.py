"""The registry: one id, one system; unknown names come with the nearest one."""

from __future__ import annotations

import pytest

from gossamer.cards import FAMILIES, Card, cards, get_card, get_system, system
from gossamer.core import ConfigError


def card(id: str, family: str = "prune") -> Card:
    return Card(id, family, "Title", 2024, "Nobody, Nowhere, arXiv 0000.00000", "a few of many")


def test_cards_are_sorted_and_agree_with_their_systems() -> None:
    found = cards()
    assert found == sorted(found, key=lambda c: (c.family, c.id))
    assert {c.family for c in found} <= set(FAMILIES)
    assert len({c.id for c in found}) == len(found)
    for c in found:
        assert get_card(c.id) is c
        assert get_system(c.id).card is c
    assert cards("prune") == [c for c in found if c.family == "prune"]


def test_unknown_names_are_answered_with_the_nearest() -> None:
    with pytest.raises(ConfigError, match="Unknown family 'prun': did you mean 'prune'"):
        cards("prun")
    for look_up in (get_card, get_system):
        with pytest.raises(ConfigError, match="Unknown system 'wandaa': did you mean 'wanda'"):
            look_up("wandaa")


def test_an_id_is_claimed_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("gossamer.cards.card._SYSTEMS", {})

    def define(module: str) -> type:
        return type("Same", (), {"__module__": module})

    first = system(card("twice"))(define("one"))
    assert first.card.id == "twice"
    system(card("twice"))(define("one"))  # the same class again, as a module reload does
    with pytest.raises(ConfigError, match=r"'twice': one\.Same and two\.Same"):
        system(card("twice"))(define("two"))


def test_a_family_is_known(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("gossamer.cards.card._SYSTEMS", {})
    with pytest.raises(ConfigError, match="Unknown family 'pruned'"):
        system(card("new", "pruned"))(type("New", (), {}))
