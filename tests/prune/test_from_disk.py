"""Pruning from shards on disk gives what pruning in memory gives, without the model in memory."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from gossamer import store
from gossamer.core import ConfigError, sites
from gossamer.models import Checkpoint
from gossamer.prune import SparseGPT, Wanda
from tests.zoo import ZOO, inputs


@pytest.mark.parametrize("name", ["llama", "gpt2", "qwen2", "mixtral"])
@pytest.mark.parametrize("layout", ["auto", "dense"])
def test_disk_to_disk_equals_memory(tmp_path: Path, name: str, layout: str) -> None:
    whole = ZOO[name]()
    whole.save_pretrained(tmp_path / "model", max_shard_size="40KB")
    tokens = inputs(name, 8, 0)["input_ids"]
    expected = Wanda().run(whole, tokens)
    result = Wanda().run(Checkpoint(tmp_path / "model"), tokens, workdir=tmp_path / "work")
    assert result.supports == expected.supports
    assert all(p.is_meta for p in result.model.parameters())
    result.save(tmp_path / "out", layout=layout)
    loaded = store.load(tmp_path / "out")
    batch = inputs(name, 2, 1)
    with torch.no_grad():
        torch.testing.assert_close(loaded(**batch).logits, whole(**batch).logits,
                                   rtol=1e-4, atol=1e-5)


def test_half_precision_shards_are_rounded_before_the_next_block(tmp_path: Path) -> None:
    model = ZOO["llama"]().bfloat16()
    model.save_pretrained(tmp_path / "model")
    tokens = inputs("llama", 8, 0)["input_ids"]
    result = SparseGPT().run(Checkpoint(tmp_path / "model"), tokens, workdir=tmp_path / "work")
    weights = dict(result.finished_weights())
    assert {w.dtype for w in weights.values()} == {torch.bfloat16}
    assert all(torch.equal(w, result.supports[n].apply(w)) for n, w in weights.items())
    result.save(tmp_path / "out")
    loaded = store.load(tmp_path / "out")
    found = store.inspect(tmp_path / "out").totals
    assert found.prunable_density == pytest.approx(0.5, abs=0.02)
    assert next(loaded.parameters()).dtype == torch.bfloat16


def test_a_work_folder_is_asked_for(tmp_path: Path) -> None:
    ZOO["llama"]().save_pretrained(tmp_path / "model")
    checkpoint = Checkpoint(tmp_path / "model")
    with pytest.raises(ConfigError, match="work folder"):
        Wanda().run(checkpoint, inputs("llama", 2, 0)["input_ids"])
    assert len(sites(checkpoint.model)) == 21
