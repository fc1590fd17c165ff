"""Llama-architecture GGUF files (Llama, Mistral, SmolLM, ...) as transformers models."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from gossamer.core.errors import StoreError, UnsupportedError
from gossamer.models.gguf_file import GgufFile
from gossamer.models.meta import empty_model

if TYPE_CHECKING:
    from transformers import LlamaConfig, LlamaForCausalLM

_OUTSIDE = {
    "token_embd.weight": "model.embed_tokens.weight", "output_norm.weight": "model.norm.weight",
    "output.weight": "lm_head.weight",
}
_INSIDE = {
    "attn_norm": "input_layernorm", "attn_q": "self_attn.q_proj", "attn_k": "self_attn.k_proj",
    "attn_v": "self_attn.v_proj", "attn_output": "self_attn.o_proj",
    "ffn_norm": "post_attention_layernorm", "ffn_gate": "mlp.gate_proj", "ffn_up": "mlp.up_proj",
    "ffn_down": "mlp.down_proj",
}


def gguf_llama(file: GgufFile, dtype: torch.dtype = torch.float32) -> LlamaForCausalLM:
    """LlamaForCausalLM with the file's weights, dequantised, in evaluation mode.

    Raises:
        UnsupportedError: another architecture, or tensors that a plain Llama does not have.
        StoreError: tensors are missing, of the wrong shape, or the file is torn.
    """
    from transformers import LlamaForCausalLM
    config = _config(file)
    names = _names(file, config.num_hidden_layers)
    model: LlamaForCausalLM = empty_model(LlamaForCausalLM, config)
    owned = dict(model.named_parameters())
    missing = sorted(owned.keys() - names.values())
    if missing:
        raise StoreError(f"{file.path} lacks the tensor of {missing[0]} ({len(missing)} missing).")
    for name, tensor in _tensors(file, names, config, dtype):
        if tensor.shape != owned[name].shape:
            raise StoreError(
                f"{file.path}: {name} has shape {list(tensor.shape)}, but its metadata asks for "
                f"{list(owned[name].shape)}."
            )
        model.load_state_dict({name: tensor}, strict=False, assign=True)
    model.tie_weights()
    return model


def _config(file: GgufFile) -> LlamaConfig:
    from transformers import LlamaConfig
    meta = file.metadata
    architecture = meta.get("general.architecture")
    if architecture != "llama":
        raise UnsupportedError(
            f"{file.path} holds the architecture {architecture!r}; only llama can be read from "
            "GGUF: take the model's safetensors folder instead."
        )
    try:
        width = meta["llama.embedding_length"]
        heads = meta["llama.attention.head_count"]
        head = meta.get("llama.attention.key_length", width // heads)
        return LlamaConfig(
            vocab_size=file.shape("token_embd.weight")[0], hidden_size=width, head_dim=head,
            intermediate_size=meta["llama.feed_forward_length"],
            num_hidden_layers=meta["llama.block_count"], num_attention_heads=heads,
            num_key_value_heads=meta.get("llama.attention.head_count_kv", heads),
            max_position_embeddings=meta["llama.context_length"],
            rms_norm_eps=meta["llama.attention.layer_norm_rms_epsilon"],
            rope_parameters={
                "rope_type": "default", "rope_theta": meta.get("llama.rope.freq_base", 10000.0),
            },
            tie_word_embeddings="output.weight" not in file.entries,
            bos_token_id=meta.get("tokenizer.ggml.bos_token_id"),
            eos_token_id=meta.get("tokenizer.ggml.eos_token_id"),
            pad_token_id=meta.get("tokenizer.ggml.padding_token_id"),
        )
    except KeyError as error:
        raise StoreError(f"{file.path} lacks {error} and cannot be read as a Llama.") from error


def _names(file: GgufFile, layers: int) -> dict[str, str]:
    """The transformers name of every tensor in the file."""
    names = dict(_OUTSIDE)
    for layer in range(layers):
        for theirs, ours in _INSIDE.items():
            names[f"blk.{layer}.{theirs}.weight"] = f"model.layers.{layer}.{ours}.weight"
    odd = sorted(file.entries.keys() - names.keys())
    partial = file.metadata.get("llama.rope.dimension_count")
    head = file.metadata.get("llama.attention.key_length") or (
        file.metadata["llama.embedding_length"] // file.metadata["llama.attention.head_count"])
    if odd or partial not in (None, head) or any("rope.scaling" in key for key in file.metadata):
        what = f"the tensor {odd[0]}" if odd else "scaled or partial rotary positions"
        raise UnsupportedError(
            f"{file.path} has {what}, which a plain Llama has not: take the model's safetensors "
            "folder instead."
        )
    return {theirs: ours for theirs, ours in names.items() if theirs in file.entries}


def _tensors(
    file: GgufFile, names: dict[str, str], config: LlamaConfig, dtype: torch.dtype
) -> Iterator[tuple[str, Tensor]]:
    for theirs, ours in names.items():
        tensor = file.read(theirs, dtype)
        if ours.endswith("q_proj.weight"):
            tensor = _halves(tensor, config.num_attention_heads)
        if ours.endswith("k_proj.weight"):
            tensor = _halves(tensor, config.num_key_value_heads or config.num_attention_heads)
        yield ours, tensor


def _halves(weight: Tensor, heads: int) -> Tensor:
    """Rows of each head from interleaved rotary pairs (0, 1), (2, 3), ... to two halves."""
    pairs = weight.reshape(heads, -1, 2, weight.shape[1])  # [heads, pairs, 2, in]
    return pairs.transpose(1, 2).reshape(weight.shape)
