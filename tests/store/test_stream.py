"""Models written item by item: sharding, repeated names, damaged parts, checkpoints on disk."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor

from gossamer import store
from gossamer.core import ConfigError, StoreError, SupportError, sites
from gossamer.layout import Packed, pack
from tests.store.pruned import manifest_of, mlp, same, zoo


class TestStream:
    """write_stream: sharding, repeated names, damaged parts."""

    def test_shards_load_like_one_file(self, tmp_path: Path) -> None:
        model, supports = zoo("llama")
        items = list(packed_items(model))
        facts = store.about(model, supports)
        store.write_stream(tmp_path / "m", items, facts, shard_bytes=20_000)
        files = sorted(p.name for p in (tmp_path / "m").glob("*.safetensors"))
        assert len(files) > 3
        assert files[0] == f"model-00001-of-{len(files):05}.safetensors"
        index = json.loads((tmp_path / "m" / "model.safetensors.index.json").read_text())
        stored = {n: f for f in files for n in load_file(tmp_path / "m" / f)}
        assert index["weight_map"] == stored
        sites = manifest_of(tmp_path / "m")["sites"]
        for name, site in sites.items():
            assert {stored[f"{name}.{part}"] for part in site["parts"]} == {site["file"]}
        assert same(model, store.load(tmp_path / "m"))

    def test_dense_shards_load_in_plain_transformers(self, tmp_path: Path) -> None:
        for name in ("llama", "mixtral"):
            model, _ = zoo(name)
            store.write_stream(tmp_path / name, model.state_dict().items(), store.about(model),
                               shard_bytes=20_000)
            assert same(model, type(model).from_pretrained(tmp_path / name))

    def test_a_name_that_comes_twice(self, tmp_path: Path) -> None:
        items = [("0.weight", torch.ones(2, 2)), ("0.weight", torch.ones(2, 2))]
        with pytest.raises(ConfigError, match=r"0\.weight came twice"):
            store.write_stream(tmp_path / "m", items, store.about(mlp()))
        assert not any(tmp_path.iterdir())

    def test_parts_that_contradict_one_another(self, tmp_path: Path) -> None:
        bad = Packed("bitmask", (1, 8), {"values": torch.ones(3),
                                         "bits": torch.ones(1, 1, dtype=torch.uint8)})
        with pytest.raises(SupportError):
            store.write_stream(tmp_path / "m", [("0.weight", bad)], store.about(mlp()))
        assert not any(tmp_path.iterdir())

    def test_a_missing_expert(self, tmp_path: Path) -> None:
        model, _ = zoo("mixtral")
        gone = "model.layers.1.mlp.experts.down_proj[2]"
        items = [item for item in packed_items(model) if item[0] != gone]
        store.write_stream(tmp_path / "m", items, store.about(model))
        with pytest.raises(StoreError, match=r"down_proj\[2\]"):
            store.load(tmp_path / "m")


def packed_items(model: torch.nn.Module) -> Iterator[tuple[str, Tensor | Packed]]:
    """The model's tensors with every site as a bitmask, experts one by one."""
    inside = {}
    for site in sites(model):
        inside.setdefault(site.name.partition("[")[0], []).append(site)
    for name, tensor in model.state_dict().items():
        if name not in inside:
            yield name, tensor
        for site in inside.get(name, []):
            yield site.name, pack(site.view(), layout="bitmask")


class TestStreamed:
    """save_streamed: from a checkpoint that is never in memory."""

    @pytest.mark.parametrize("name", ["llama", "gpt2", "mixtral", "qwen2"])
    @pytest.mark.parametrize("layout", ["auto", "dense"])
    def test_a_checkpoint_read_by_name(self, name: str, layout: str, tmp_path: Path) -> None:
        model, supports = zoo(name)
        weights = [(s.name, s.view().clone()) for s in sites(model)]
        store.save_streamed(Reads(model), tmp_path / "m", supports, iter(weights), layout=layout)
        assert same(model, store.load(tmp_path / "m"))
        if layout == "dense":
            assert same(model, type(model).from_pretrained(tmp_path / "m"))

    def test_only_some_sites_are_given(self, tmp_path: Path) -> None:
        model, supports = zoo("mixtral")
        some = [s for i, s in enumerate(sites(model)) if i % 3]
        chosen = {s.name: supports[s.name] for s in some}
        weights = ((s.name, s.view().clone()) for s in some)
        store.save_streamed(Reads(model), tmp_path / "m", chosen, weights, layout="bitmask")
        assert same(model, store.load(tmp_path / "m"))

    def test_a_weight_that_never_comes(self, tmp_path: Path) -> None:
        model, supports = zoo("llama")
        with pytest.raises(ConfigError, match="No weight was given"):
            store.save_streamed(Reads(model), tmp_path / "m", supports, iter(()))
        assert not any(tmp_path.iterdir())


class Reads:
    """A checkpoint in memory, read by name."""

    def __init__(self, model: torch.nn.Module) -> None:
        self.model = model

    def tensors(self) -> Iterator[tuple[str, tuple[int, ...], torch.dtype]]:
        seen = set()
        for name, tensor in self.model.state_dict(keep_vars=True).items():
            if id(tensor) not in seen:
                seen.add(id(tensor))
                yield name, tuple(tensor.shape), tensor.dtype

    def read(self, name: str) -> Tensor:
        return self.model.state_dict()[name].clone()
