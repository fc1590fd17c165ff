"""The registry of systems and the records that describe them."""

from gossamer.cards.card import FAMILIES, Card, cards, get_card, get_system, load_families, system
from gossamer.cards.parameters import pruning_system

__all__ = ["FAMILIES", "Card", "cards", "get_card", "get_system", "load_families", "pruning_system",
           "system"]
