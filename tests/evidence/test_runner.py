"""Discovery and running of evidence scripts, and what the command makes of the outcomes."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from gossamer.cards import cards
from gossamer.cli import main
from gossamer.core.errors import ConfigError, NeedsError
from gossamer.evidence import Script, evidence_page, run_evidence, runner, scripts
from gossamer.evidence.page import flat_figures


@pytest.fixture
def one_script(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every system's script is tests.evidence.holding."""
    monkeypatch.setattr(runner, "script", lambda id: Script(id, "prune", "tests.evidence.holding"))


def test_every_script_belongs_to_a_system_and_has_run() -> None:
    known = {card.id: card.family for card in cards()}
    for item in scripts():
        assert known[item.id] == item.family
        assert callable(item.load())


def test_every_system_but_the_baseline_has_a_script() -> None:
    assert {card.id for card in cards()} - {item.id for item in scripts()} <= {"magnitude"}


def test_unknown_names_are_refused_before_anything_runs() -> None:
    with pytest.raises(ConfigError, match="did you mean 'prune'"):
        scripts("prunes")
    with pytest.raises(ConfigError, match="did you mean 'wanda'"):
        next(iter(run_evidence(["wannda"])))


def test_a_system_without_a_script_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(runner, "scripts", lambda family: [])
    with pytest.raises(NeedsError, match="'wanda' has no evidence script"):
        next(iter(run_evidence(["wanda"])))


@pytest.mark.usefixtures("one_script")
def test_every_seed_runs_and_an_error_is_an_outcome() -> None:
    found = list(run_evidence(["wanda"], seeds=(0, 1, 2)))
    assert [outcome.holds for outcome in found] == [True, False, False]
    assert found[2].evidence is None
    assert found[2].error == "The text is empty; pass another."


@pytest.mark.usefixtures("one_script")
def test_the_command_fails_where_a_claim_does(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    page, record = tmp_path / "page.html", tmp_path / "record.json"
    assert main(["evidence", "wanda"]) == 0
    arguments = ["evidence", "wanda", "--seed", "0", "1", "--html", str(page),
                 "--json", str(record)]
    assert main(arguments) == 1
    printed = capsys.readouterr().out
    assert "wanda, seed 1: does not hold" in printed
    assert printed.endswith("1 of 2 runs hold.\n")
    assert [entry["evidence"]["holds"] for entry in json.loads(record.read_text())] == [True, False]
    assert "the seed &lt;is&gt; zero" in page.read_text()


@pytest.mark.parametrize("arguments", [[], ["wanda", "--all"], ["--all", "--family", "prune"]])
def test_what_to_run_is_said_exactly_once(
    arguments: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["evidence", *arguments]) == 2
    assert "Say which evidence to run" in capsys.readouterr().err


def test_a_missing_data_folder_is_a_sentence(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["evidence", "wanda", "--data", str(tmp_path / "none")]) == 2
    assert "No folder of data" in capsys.readouterr().err


@pytest.mark.usefixtures("one_script")
def test_the_page_holds_every_outcome() -> None:
    text = evidence_page(list(run_evidence(["wanda"], seeds=(0, 1, 2))))
    assert text.count("<section>") == text.count("</section>") == 3
    assert "1 of 3 runs hold" in text
    assert "could not run: The text is empty" in text


def test_nested_figures_are_flattened() -> None:
    figures = {"a": {"b": 1 / 3, "c": [1, 2.0]}, "d": True}
    assert list(flat_figures(figures)) == [("a.b", "0.3333"), ("a.c", "1, 2"), ("d", "True")]
