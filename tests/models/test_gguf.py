"""GGUF files written by llama.cpp's own rules load into the model that they were made from."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import gguf
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from gossamer.core import StoreError, UnsupportedError
from gossamer.models import load
from gossamer.models.gguf_file import open_gguf
from gossamer.models.gguf_tokenizer import gguf_tokenizer
from tests.zoo import ZOO, inputs, tiny_tokenizer

_THEIRS = {
    "input_layernorm": "attn_norm", "self_attn.q_proj": "attn_q", "self_attn.k_proj": "attn_k",
    "self_attn.v_proj": "attn_v", "self_attn.o_proj": "attn_output",
    "post_attention_layernorm": "ffn_norm", "mlp.gate_proj": "ffn_gate", "mlp.up_proj": "ffn_up",
    "mlp.down_proj": "ffn_down",
}


def _permute(weight: np.ndarray, heads: int) -> np.ndarray:
    """As llama.cpp's converter does it for q and k."""
    rows, cols = weight.shape
    return weight.reshape(heads, 2, rows // heads // 2, cols).swapaxes(1, 2).reshape(rows, cols)


def _arrays(model: nn.Module) -> dict[str, np.ndarray]:
    arrays = {"token_embd.weight": model.get_parameter("model.embed_tokens.weight"),
              "output_norm.weight": model.get_parameter("model.norm.weight"),
              "output.weight": model.get_parameter("lm_head.weight")}
    for layer in range(model.config.num_hidden_layers):
        for ours, theirs in _THEIRS.items():
            weight = model.get_parameter(f"model.layers.{layer}.{ours}.weight")
            arrays[f"blk.{layer}.{theirs}.weight"] = weight
    made = {name: tensor.detach().numpy() for name, tensor in arrays.items()}
    for name in made:
        if "attn_q" in name:
            made[name] = _permute(made[name], model.config.num_attention_heads)
        if "attn_k" in name:
            made[name] = _permute(made[name], model.config.num_key_value_heads)
    return made


def _write(
    file: Path, model: nn.Module, kind: gguf.GGMLQuantizationType | None = None,
    drop: tuple[str, ...] = (), **more: Any,
) -> Path:
    config = model.config
    writer = gguf.GGUFWriter(file, "llama")
    writer.add_context_length(config.max_position_embeddings)
    writer.add_embedding_length(config.hidden_size)
    writer.add_block_count(config.num_hidden_layers)
    writer.add_feed_forward_length(config.intermediate_size)
    writer.add_head_count(config.num_attention_heads)
    writer.add_head_count_kv(config.num_key_value_heads)
    writer.add_layer_norm_rms_eps(config.rms_norm_eps)
    writer.add_rope_freq_base(config.rope_parameters["rope_theta"])
    tokenizer = tiny_tokenizer()
    tokens = sorted(tokenizer.get_vocab(), key=tokenizer.get_vocab().__getitem__)
    tokens[255] = "ab"  # one merge, in place of a byte that text in UTF-8 never has
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre(more.pop("pre", "smollm"))
    writer.add_token_list(tokens)
    writer.add_token_types([1] * 256 + [3] * 3)
    writer.add_token_merges(more.pop("merges", ["a b"]))
    writer.add_bos_token_id(256)
    writer.add_eos_token_id(257)
    writer.add_add_bos_token(more.pop("bos", False))
    for name, array in {**_arrays(model), **more.pop("extra", {})}.items():
        if name not in drop:
            if kind is not None and array.ndim == 2:
                writer.add_tensor(name, gguf.quantize(array, kind), raw_dtype=kind)
            else:
                writer.add_tensor(name, array)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return file


def test_a_written_llama_loads_as_itself(tmp_path: Path) -> None:
    model = ZOO["llama"]()
    loaded = load(_write(tmp_path / "tiny.gguf", model))
    assert (loaded.name, loaded.source) == ("tiny", str(tmp_path / "tiny.gguf"))
    wanted, seen = model.state_dict(), loaded.model.state_dict()
    assert wanted.keys() == seen.keys()
    assert all(torch.equal(wanted[key], seen[key]) for key in wanted)
    with torch.inference_mode():
        batch = inputs("llama")
        assert torch.equal(loaded.model(**batch).logits, model(**batch).logits)


@pytest.mark.parametrize("kind", ["F16", "Q8_0", "Q4_1"])
def test_quantised_tensors_are_dequantised_by_the_formats_rule(tmp_path: Path, kind: str) -> None:
    from transformers import LlamaConfig, LlamaForCausalLM
    torch.manual_seed(0)
    model = LlamaForCausalLM(LlamaConfig(
        vocab_size=259, hidden_size=64, intermediate_size=96, num_hidden_layers=1,
        num_attention_heads=2, num_key_value_heads=1, initializer_range=0.1,
    ))
    rule = gguf.GGMLQuantizationType[kind]
    loaded = load(_write(tmp_path / "q.gguf", model, rule), dtype=torch.bfloat16).model
    weight = model.model.layers[0].mlp.down_proj.weight.detach().numpy()
    wanted = gguf.dequantize(gguf.quantize(weight, rule), rule)
    seen = loaded.get_parameter("model.layers.0.mlp.down_proj.weight")
    assert torch.equal(seen, torch.from_numpy(wanted).bfloat16())
    assert abs(wanted - weight).max() < 0.1


def test_a_tied_head_stays_tied(tmp_path: Path) -> None:
    model = ZOO["llama"]()
    loaded = load(_write(tmp_path / "tied.gguf", model, drop=("output.weight",))).model
    assert loaded.config.tie_word_embeddings
    assert loaded.lm_head.weight is loaded.model.embed_tokens.weight


def test_the_tokenizer_cuts_digits_merges_and_knows_its_specials(tmp_path: Path) -> None:
    tokenizer = load(_write(tmp_path / "t.gguf", ZOO["llama"]())).tokenizer
    assert tokenizer("cab 12</s>")["input_ids"] == [*b"c", 255, *b" 12", 257]
    assert (tokenizer.bos_token_id, tokenizer.eos_token_id) == (256, 257)
    text = "naïve — 1815\n"
    assert tokenizer.decode(tokenizer(text)["input_ids"]) == text


@pytest.mark.parametrize(("pre", "pieces"), [
    ("smollm", ["ab", "1", "2", "3", "4"]), ("gpt-2", ["ab", "1234"]),
    ("llama-bpe", ["ab", "123", "4"]),
])
def test_rules_for_cutting_text(tmp_path: Path, pre: str, pieces: list[str]) -> None:
    file = open_gguf(_write(tmp_path / "t.gguf", ZOO["llama"](), pre=pre))
    cutter = gguf_tokenizer(file).backend_tokenizer.pre_tokenizer
    assert [piece for piece, _ in cutter.pre_tokenize_str("ab1234")] == pieces


def test_a_file_may_ask_for_a_first_token(tmp_path: Path) -> None:
    file = open_gguf(_write(tmp_path / "t.gguf", ZOO["llama"](), bos=True))
    tokenizer = gguf_tokenizer(file)
    assert tokenizer("hi")["input_ids"] == [256, *b"hi"]
    assert tokenizer("hi", add_special_tokens=False)["input_ids"] == [*b"hi"]


def test_an_unknown_tokenizer_is_refused_unless_one_lies_beside(tmp_path: Path) -> None:
    file = _write(tmp_path / "t.gguf", ZOO["llama"](), pre="qwen35")
    with pytest.raises(UnsupportedError, match=r"'gpt2' with rule 'qwen35'.*tokenizer\.json"):
        load(file)
    tiny_tokenizer().save_pretrained(tmp_path)
    assert load(file).tokenizer("hi")["input_ids"] == [*b"hi"]


@pytest.mark.parametrize(("extra", "drop", "error", "message"), [
    ({"rope_freqs.weight": np.ones(4, np.float32)}, (), UnsupportedError, "rope_freqs.weight"),
    ({"blk.0.attn_q.bias": np.ones(32, np.float32)}, (), UnsupportedError, "attn_q.bias"),
    ({}, ("blk.1.ffn_up.weight",), StoreError, "layers.1.mlp.up_proj"),
    ({"output_norm.weight": np.ones(31, np.float32)}, (), StoreError, r"\[31\].*\[32\]"),
])
def test_tensors_that_do_not_make_a_llama(
    tmp_path: Path, extra: dict[str, np.ndarray], drop: tuple[str, ...],
    error: type[Exception], message: str,
) -> None:
    file = _write(tmp_path / "odd.gguf", ZOO["llama"](), drop=drop, extra=extra)
    with pytest.raises(error, match=message):
        load(file)


def test_merges_outside_the_vocabulary(tmp_path: Path) -> None:
    file = _write(tmp_path / "t.gguf", ZOO["llama"](), merges=["a b", "x y"])
    with pytest.raises(StoreError, match="lacks tokens that it merges"):
        load(file)


def test_another_architecture_and_version(tmp_path: Path) -> None:
    writer = gguf.GGUFWriter(tmp_path / "phi.gguf", "phi3")
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    with pytest.raises(UnsupportedError, match="architecture 'phi3'"):
        load(tmp_path / "phi.gguf")
    (tmp_path / "v9.gguf").write_bytes(b"GGUF\x09\0\0\0" + bytes(16))
    with pytest.raises(StoreError, match="version 9"):
        load(tmp_path / "v9.gguf")
    with pytest.raises(StoreError, match="cannot be read"):
        open_gguf(tmp_path / "nothing.gguf")


@given(share=st.floats(0, 0.999))
@settings(max_examples=25, deadline=None)
def test_a_torn_file_is_never_read_as_good(
    share: float, tmp_path_factory: pytest.TempPathFactory
) -> None:
    folder = tmp_path_factory.mktemp("torn")
    whole = _write(folder / "whole.gguf", ZOO["llama"]()).read_bytes()
    torn = folder / "torn.gguf"
    torn.write_bytes(whole[: int(share * len(whole))])
    with pytest.raises(StoreError, match=r"torn\.gguf"):
        load(torn)
