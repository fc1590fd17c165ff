"""pack: from any folder to any layout."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from gossamer import store
from gossamer.core import StoreError
from tests.store.pruned import manifest_of, mlp, prune, same, zoo
from tests.zoo import tiny_tokenizer


class TestPack:
    """pack: from any folder to any layout."""

    @pytest.mark.parametrize("name", ["llama", "gpt2", "qwen3_moe", "bert"])
    def test_there_and_back(self, name: str, tmp_path: Path) -> None:
        model, _ = zoo(name)
        model.save_pretrained(tmp_path / "plain")
        store.pack(tmp_path / "plain", tmp_path / "packed")
        store.pack(tmp_path / "packed", tmp_path / "csr", layout="csr")
        store.pack(tmp_path / "csr", tmp_path / "dense", layout="dense")
        for folder in ("packed", "csr"):
            assert same(model, store.load(tmp_path / folder))
        assert same(model, type(model).from_pretrained(tmp_path / "dense"))

    @pytest.mark.parametrize("layout", ["auto", "csr", "dense"])
    def test_a_module_of_ones_own(self, layout: str, tmp_path: Path) -> None:
        model = mlp()
        supports = prune(model, "rows")
        store.save(model, tmp_path / "a", supports, layout="bitmask", system={"id": "x"})
        store.pack(tmp_path / "a", tmp_path / "b", layout=layout)
        store.pack(tmp_path / "b", tmp_path / "c", layout="bitmask", dtype=torch.bfloat16)
        assert same(model, store.load(tmp_path / "b", into=mlp()))
        assert same(model.bfloat16(), store.load(tmp_path / "c", into=mlp()))
        assert manifest_of(tmp_path / "c")["system"] == {"id": "x"}
        assert manifest_of(tmp_path / "c")["sites"]["0.weight"]["pattern"] == "rows"

    def test_companions_are_copied(self, tmp_path: Path) -> None:
        model, supports = zoo("llama")
        store.save(model, tmp_path / "a", supports, tokenizer=tiny_tokenizer())
        store.pack(tmp_path / "a", tmp_path / "b", layout="dense")
        for name in ("tokenizer.json", "tokenizer_config.json"):
            assert (tmp_path / "b" / name).read_bytes() == (tmp_path / "a" / name).read_bytes()

    def test_bad_input(self, tmp_path: Path) -> None:
        with pytest.raises(StoreError, match="no folder"):
            store.pack(tmp_path / "a", tmp_path / "b")
        (tmp_path / "a").mkdir()
        with pytest.raises(StoreError, match=r"no config\.json"):
            store.pack(tmp_path / "a", tmp_path / "b")
        (tmp_path / "a" / "config.json").write_text("{")
        with pytest.raises(StoreError):
            store.pack(tmp_path / "a", tmp_path / "b")
