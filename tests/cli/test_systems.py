"""``gossamer systems`` and ``gossamer show`` against the registry itself."""

from __future__ import annotations

import pytest

from gossamer.cards import cards, get_system
from gossamer.cards.render import system_page
from gossamer.cli import main


def test_systems_lists_every_card(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["systems"]) == 0
    printed = capsys.readouterr().out
    for card in cards():
        assert card.id in printed


def test_an_unknown_family_is_a_sentence(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["systems", "--family", "prun"]) == 2
    assert "did you mean 'prune'?" in capsys.readouterr().err


@pytest.mark.parametrize("card", cards(), ids=lambda card: card.id)
def test_show_prints_the_reference_page(card, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["show", card.id]) == 0
    assert capsys.readouterr().out == system_page(card, get_system(card.id))


def test_show_of_an_unknown_system_names_the_nearest(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["show", "sparsgpt"]) == 2
    assert capsys.readouterr().err == (
        "gossamer: Unknown system 'sparsgpt': did you mean 'sparsegpt'?\n"
    )
