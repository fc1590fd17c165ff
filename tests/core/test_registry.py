"""Registry: names once, in order, and gone again after a scope."""

from __future__ import annotations

from dataclasses import dataclass

import pytest

from gossamer.core import ConfigError
from gossamer.core.registry import Registry


@dataclass(frozen=True)
class Item:
    name: str


def test_order_and_scope() -> None:
    told: list[int] = []
    registry = Registry("thing", (Item("a"), Item("b")), lambda: told.append(1))
    with registry.register(Item("c")), registry.register(Item("d"), first=True):
        assert list(registry) == ["d", "a", "b", "c"]
        assert registry["c"] == Item("c")
        assert len(registry) == 4
    assert list(registry) == ["a", "b"]
    assert len(told) == 4


def test_a_name_is_taken_once_and_removal_takes_out_its_own_alone() -> None:
    registry = Registry("thing", (Item("a"),))
    with pytest.raises(ConfigError, match="There is a thing 'a' already"):
        registry.register(Item("a"))
    first = registry.register(Item("b"))
    first.remove()
    second = registry.register(Item("b"))
    first.remove()
    assert list(registry) == ["a", "b"]
    second.remove()
    assert list(registry) == ["a"]


def test_an_error_inside_the_scope_still_takes_it_out() -> None:
    registry = Registry("thing", (Item("a"),))
    with pytest.raises(ZeroDivisionError), registry.register(Item("b")):
        raise ZeroDivisionError
    assert "b" not in registry
