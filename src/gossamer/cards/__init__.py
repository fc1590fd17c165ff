"""The registry of systems and the records that describe them."""

from gossamer.cards.card import FAMILIES, Card, cards, get_card, get_system, load_families, system

__all__ = ["FAMILIES", "Card", "cards", "get_card", "get_system", "load_families", "system"]
