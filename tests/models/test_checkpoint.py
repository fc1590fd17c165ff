"""A checkpoint opened without its weights gives, module by module, exactly what was saved."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import nn

from gossamer.core import ConfigError, StoreError, UnsupportedError, blocks, sites
from gossamer.models import Checkpoint
from tests.zoo import ZOO, inputs


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    root = tmp_path_factory.mktemp("zoo")
    for name, build in ZOO.items():
        build().save_pretrained(root / name, max_shard_size="40KB")
    return {name: root / name for name in ZOO}


def _save(name: str, folder: Path) -> nn.Module:
    model = ZOO[name]()
    model.save_pretrained(folder)
    return model


@pytest.mark.parametrize("name", list(ZOO))
def test_everything_loaded_equals_what_was_saved(name: str, folders: dict[str, Path]) -> None:
    saved, checkpoint = ZOO[name](), Checkpoint(folders[name])
    model = checkpoint.model
    assert type(model) is type(saved)
    assert all(p.is_meta for p in model.parameters())
    assert not any(b.is_meta for b in model.buffers())
    assert [s.name for s in sites(model)] == [s.name for s in sites(saved)]
    checkpoint.load(model, "")
    wanted, seen = saved.state_dict(), model.state_dict()
    assert wanted.keys() == seen.keys()
    assert all(torch.equal(wanted[key], seen[key]) for key in wanted)
    assert dict(model.named_parameters()).keys() == dict(saved.named_parameters()).keys()
    with torch.inference_mode():
        batch = inputs(name)
        assert torch.equal(model(**batch).logits, saved(**batch).logits)


@pytest.mark.parametrize("name", list(ZOO))
def test_one_block_comes_and_goes(name: str, folders: dict[str, Path]) -> None:
    saved, checkpoint = ZOO[name](), Checkpoint(folders[name])
    path, block = blocks(checkpoint.model)[1]
    checkpoint.load(block, path)
    for key, parameter in checkpoint.model.named_parameters():
        assert parameter.is_meta != key.startswith(f"{path}.")
        if not parameter.is_meta:
            assert torch.equal(parameter, saved.get_parameter(key))
    site = sites(checkpoint.model, f"{path}.*")[-1]
    site.write(torch.zeros(site.shape))
    checkpoint.load(block, path)  # loaded already: the edit stays
    assert not site.view().any()
    checkpoint.unload(block)
    assert all(p.is_meta for p in checkpoint.model.parameters())


@pytest.mark.parametrize("name", list(ZOO))
def test_tensors_and_read_cover_the_state_dict(name: str, folders: dict[str, Path]) -> None:
    saved, checkpoint = ZOO[name](), Checkpoint(folders[name])
    listed = {key: (shape, dtype) for key, shape, dtype in checkpoint.tensors()}
    tied = {id(t): key for key, t in reversed(saved.state_dict(keep_vars=True).items())}
    assert len(listed) == len(tied)
    for key, (shape, dtype) in listed.items():
        tensor = checkpoint.read(key)
        assert (tuple(tensor.shape), tensor.dtype) == (shape, dtype)
        assert torch.equal(tensor, saved.state_dict()[key])
    assert all(p.is_meta for p in checkpoint.model.parameters())


def test_tied_weights_are_one_parameter_when_either_is_loaded(folders: dict[str, Path]) -> None:
    checkpoint = Checkpoint(folders["qwen2"])
    model = checkpoint.model
    checkpoint.load(model.lm_head, "lm_head")
    assert model.model.embed_tokens.weight.is_meta
    checkpoint.load(model.model.embed_tokens, "model.embed_tokens")
    assert model.lm_head.weight is model.model.embed_tokens.weight
    checkpoint.unload(model.lm_head)
    assert not model.model.embed_tokens.weight.is_meta
    assert torch.equal(checkpoint.read("lm_head.weight"), model.model.embed_tokens.weight)


def test_twins_that_differ_in_the_file_are_kept_apart(tmp_path: Path) -> None:
    _save("qwen2", tmp_path)
    file = tmp_path / "model.safetensors"
    stored = load_file(file)
    head = torch.randn_like(stored["model.embed_tokens.weight"])
    save_file({**stored, "lm_head.weight": head}, file, {"format": "pt"})
    checkpoint = Checkpoint(tmp_path)
    checkpoint.load(checkpoint.model, "")
    assert torch.equal(checkpoint.model.lm_head.weight, head)
    embedding = checkpoint.model.model.embed_tokens.weight
    assert torch.equal(embedding, stored["model.embed_tokens.weight"])


def test_a_stored_tensor_may_be_split_into_several_parameters(tmp_path: Path) -> None:
    from transformers import NomicBertConfig, NomicBertForMaskedLM
    saved = NomicBertForMaskedLM(NomicBertConfig(
        vocab_size=259, hidden_size=32, intermediate_size=48, num_hidden_layers=2,
        num_attention_heads=4, pad_token_id=258,
    )).eval()
    saved.save_pretrained(tmp_path)
    stored = load_file(tmp_path / "model.safetensors")
    assert any(key.endswith("Wqkv.weight") for key in stored)
    checkpoint = Checkpoint(tmp_path)
    names = [name for name, _, _ in checkpoint.tensors()]
    key = next(name for name in names if name.endswith("1.self_attn.k_proj.weight"))
    assert torch.equal(checkpoint.read(key), saved.get_parameter(key))
    checkpoint.load(checkpoint.model, "")
    assert all(torch.equal(tensor, checkpoint.model.state_dict()[name])
               for name, tensor in saved.state_dict().items())


@pytest.mark.parametrize("name", ["llama", "mixtral"])
def test_a_dtype_casts_floating_point_weights(name: str, folders: dict[str, Path]) -> None:
    saved, checkpoint = ZOO[name](), Checkpoint(folders[name], dtype=torch.bfloat16)
    assert {p.dtype for p in checkpoint.model.parameters()} == {torch.bfloat16}
    checkpoint.load(checkpoint.model, "")
    for key, parameter in checkpoint.model.named_parameters():
        assert torch.equal(parameter, saved.get_parameter(key).bfloat16())
    assert checkpoint.model.model.rotary_emb.inv_freq.dtype == torch.float32


def _drop(folder: Path, key: str) -> None:
    file = folder / "model.safetensors"
    stored = load_file(file)
    del stored[key]
    save_file(stored, file, {"format": "pt"})


def test_missing_parameters_are_named(tmp_path: Path) -> None:
    _save("llama", tmp_path)
    _drop(tmp_path, "model.layers.1.mlp.up_proj.weight")
    with pytest.raises(UnsupportedError, match=r"model\.layers\.1\.mlp\.up_proj\.weight"):
        Checkpoint(tmp_path)


def test_a_missing_expert_is_noticed(tmp_path: Path) -> None:
    _save("mixtral", tmp_path)
    _drop(tmp_path, "model.layers.1.block_sparse_moe.experts.2.w3.weight")
    checkpoint = Checkpoint(tmp_path)
    checkpoint.load(checkpoint.model.model.layers[0], "model.layers.0")
    with pytest.raises(StoreError, match=r"layers\.1\.mlp\.experts\.gate_up_proj.*not all there"):
        checkpoint.load(checkpoint.model.model.layers[1], "model.layers.1")


def test_a_shape_that_config_does_not_ask_for(tmp_path: Path) -> None:
    _save("llama", tmp_path)
    config = json.loads((tmp_path / "config.json").read_text())
    (tmp_path / "config.json").write_text(json.dumps({**config, "intermediate_size": 64}))
    checkpoint = Checkpoint(tmp_path)
    with pytest.raises(StoreError, match=r"has shape \[48, 32\].*asks for \[64, 32\]"):
        checkpoint.load(checkpoint.model.model.layers[0], "model.layers.0")


def test_a_module_must_go_by_its_name(folders: dict[str, Path]) -> None:
    checkpoint = Checkpoint(folders["llama"])
    with pytest.raises(ConfigError, match=r"'model\.layers\.1' does not name"):
        checkpoint.load(checkpoint.model.model.layers[0], "model.layers.1")
    with pytest.raises(ConfigError, match="does not name"):
        checkpoint.load(ZOO["llama"](), "")
    with pytest.raises(StoreError, match="holds no tensor 'nothing'"):
        checkpoint.read("nothing")


def test_bad_folders(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match="no folder"):
        Checkpoint(tmp_path / "nowhere")
    with pytest.raises(StoreError, match=r"no model\.safetensors"):
        Checkpoint(tmp_path)
    _save("llama", tmp_path)
    (tmp_path / "config.json").write_text("{torn")
    with pytest.raises(StoreError, match=r"config\.json"):
        Checkpoint(tmp_path)
    (tmp_path / "config.json").write_text('{"model_type": "nobody_knows_it"}')
    with pytest.raises(UnsupportedError, match="nobody_knows_it"):
        Checkpoint(tmp_path)
    (tmp_path / "config.json").unlink()
    with pytest.raises(StoreError, match=r"no config\.json"):
        Checkpoint(tmp_path)


_WALK = """
import json, sys
import torch
from gossamer.core import blocks
from gossamer.models import Checkpoint

def status(key):
    with open("/proc/self/status") as file:
        return next(int(line.split()[1]) * 1024 for line in file if line.startswith(key))

checkpoint = Checkpoint(sys.argv[1])
torch.ones(512, 512) @ torch.ones(512, 512)  # the product's own buffers are not the checkpoint's
with open("/proc/self/clear_refs", "w") as file:
    file.write("5")
before = status("VmRSS")
for path, block in blocks(checkpoint.model):
    checkpoint.load(block, path)
    total = sum(float(p.sum()) for p in block.parameters())
    checkpoint.unload(block)
print(json.dumps({"peak": status("VmHWM") - before}))
"""


@pytest.mark.skipif(not os.access("/proc/self/clear_refs", os.W_OK), reason="needs Linux /proc")
def test_walking_the_blocks_peaks_at_about_one_block(tmp_path: Path) -> None:
    from transformers import LlamaConfig, LlamaForCausalLM
    config = LlamaConfig(vocab_size=64, hidden_size=512, intermediate_size=2048,
                         num_hidden_layers=8, num_attention_heads=8)
    with torch.device("meta"):
        model = LlamaForCausalLM(config)
    model.to_empty(device="cpu").save_pretrained(tmp_path, max_shard_size="50MB")
    block = sum(p.nbytes for p in model.model.layers[0].parameters())
    done = subprocess.run([sys.executable, "-c", _WALK, str(tmp_path)], text=True, check=True,
                          capture_output=True)
    peak = json.loads(done.stdout.splitlines()[-1])["peak"]
    assert 0.7 * block < peak < 1.4 * block + (4 << 20)
