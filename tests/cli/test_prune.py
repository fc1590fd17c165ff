"""``gossamer prune``, ``inspect`` and ``pack`` on a tiny model, from folder to folder."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from gossamer import store
from gossamer.cards import Card, cards, get_system
from gossamer.cards.parameters import parameters
from gossamer.cli import main
from gossamer.cli.settings import named_system, settings_type
from gossamer.core import sites
from gossamer.ops import PackedLinear
from tests.zoo import llama, tiny_tokenizer

SHORT = ["--sequences", "4", "--length", "32"]


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny Llama with its tokenizer, in the Hugging Face format."""
    folder = tmp_path_factory.mktemp("tiny")
    torch.manual_seed(0)
    llama().save_pretrained(folder)
    tiny_tokenizer().save_pretrained(folder)
    return folder


def packed_layers(folder: Path) -> dict[str, PackedLinear]:
    model = store.load(folder)
    return {name: m for name, m in model.named_modules() if isinstance(m, PackedLinear)}


def test_a_model_is_pruned_saved_and_the_work_folder_removed(
    tiny: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "pruned"
    assert main(["prune", str(tiny), "--pattern", "2:4", "--out", str(out), *SHORT]) == 0
    seen = capsys.readouterr()
    assert "sparsegpt, pattern 2:4" in seen.out
    assert "50.0% of 21 matrices" in seen.out
    assert "Traceback" not in seen.err
    assert [path.name for path in tmp_path.iterdir()] == ["pruned"]
    assert len(packed_layers(out)) == len(sites(llama()))


def test_streaming_from_disk_gives_the_same_model(tiny: Path, tmp_path: Path) -> None:
    whole, streamed = tmp_path / "whole", tmp_path / "streamed"
    common = ["prune", str(tiny), "--system", "wanda", "--density", "0.3", *SHORT]
    assert main([*common, "--out", str(whole)]) == 0
    assert main([*common, "--stream", "--out", str(streamed)]) == 0
    first, second = store.load(whole).state_dict(), store.load(streamed).state_dict()
    assert first.keys() == second.keys()
    for name, tensor in first.items():
        assert torch.equal(tensor, second[name]), name


def test_packing_to_dense_and_back_loses_nothing(
    tiny: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pruned, plain, again = tmp_path / "pruned", tmp_path / "plain", tmp_path / "again"
    assert main(["prune", str(tiny), "--system", "magnitude", "--density", "0.3",
                 "--out", str(pruned), *SHORT]) == 0
    assert main(["pack", str(pruned), "--out", str(plain), "--layout", "dense"]) == 0
    assert main(["pack", str(plain), "--out", str(again)]) == 0
    assert "MB" in capsys.readouterr().out
    tokens = torch.arange(16)[None]
    with torch.inference_mode():
        logits = [store.load(folder)(tokens).logits for folder in (pruned, again)]
    assert torch.equal(*logits)


def test_inspect_says_what_a_folder_holds(
    tiny: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "pruned"
    assert main(["prune", str(tiny), "--pattern", "2:4", "--out", str(out), *SHORT]) == 0
    capsys.readouterr()
    assert main(["inspect", str(out)]) == 0
    printed = capsys.readouterr().out
    line = next(line for line in printed.splitlines() if "model.layers.*.mlp.down_proj" in line)
    assert line.split()[1:6] == ["3", "nm", "bfloat16", "32x48", "50.0%"]
    assert "2:4" in line


@pytest.mark.parametrize(("words", "sentence"), [
    (["--system", "wandda"], "did you mean 'wanda'?"),
    (["--system", "wanda", "--density", "1.5"], "Wanda.density must be at most 1, not 1.5."),
    (["--density", "0"], "SparseGPT.density must be greater than 0, not 0.0."),
    (["--pattern", "5:4"], "N must lie in 1..M"),
    (["--pattern", "2:5"], "model.layers.0.self_attn.q_proj.weight"),
    (["--pattern", "rowz"], "did you mean 'rows'?"),
    (["--pattern", "2:4", "--density", "0.3"], "contradicts density 0.3"),
    (["--layout", "bitmaskk"], "did you mean 'bitmask'?"),
    (["--text", "embedded:calibratoin"], "did you mean 'calibration'?"),
    (["--text", "no-such-file.txt"], "No text at 'no-such-file.txt'"),
    (["--match", "*nothing*"], "no prunable site that matches"),
    (["--sequences", "0"], "sequences must be at least 1, not 0."),
])
def test_bad_input_is_one_sentence_and_leaves_nothing(
    words: list[str], sentence: str, tiny: Path, tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    out = tmp_path / "pruned"
    assert main(["prune", str(tiny), "--out", str(out), *SHORT, *words]) == 2
    error = capsys.readouterr().err.splitlines()[-1]
    assert error.startswith("gossamer: ")
    assert sentence in error
    assert not out.exists()


def test_a_folder_that_holds_something_else_is_refused_before_the_work(
    tiny: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "thesis.txt").write_text("years of work")
    assert main(["prune", str(tiny), "--out", str(tmp_path), *SHORT]) == 2
    assert "thesis.txt" in capsys.readouterr().err
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.txt"]


def prunes(card: Card) -> bool:
    return any(field.name == "density" for field in parameters(get_system(card.id)))


def test_a_system_that_prunes_nothing_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    for card in cards():
        if not prunes(card):
            assert main(["prune", "m", "--system", card.id, "--out", "o"]) == 2
            assert f"{card.id} prunes nothing" in capsys.readouterr().err


@pytest.mark.parametrize("card", filter(prunes, cards()), ids=lambda card: card.id)
def test_every_field_of_a_system_is_an_option(card, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stop:
        main(["prune", "--system", card.id, "--help"])
    assert stop.value.code == 0
    text = capsys.readouterr().out
    for parameter in parameters(get_system(card.id)):
        assert "--" + parameter.name.replace("_", "-") in text
    assert settings_type(card.id)() is not None


def test_the_system_is_found_however_it_is_written() -> None:
    assert named_system(["m", "--system", "a"], "d") == "a"
    assert named_system(["m", "--system=a"], "d") == "a"
    assert named_system(["m", "--system"], "d") == "d"
    assert named_system(["m"], "d") == "d"
