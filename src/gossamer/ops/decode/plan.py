"""What decoding needs to know of a model, as plain tensors and numbers."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

import torch
from torch import Tensor, nn

from gossamer.core import UnsupportedError
from gossamer.layout import Packed
from gossamer.ops.linear import PackedLinear

# Decoders of pre-norm blocks with rotary positions and a gated MLP, and what they add to the
# weights of their norms.
_CLASSES: Mapping[str, float] = MappingProxyType({
    "LlamaForCausalLM": 0.0, "MistralForCausalLM": 0.0, "Qwen2ForCausalLM": 0.0,
    "Qwen3ForCausalLM": 0.0, "GemmaForCausalLM": 1.0,
})
_ACTIVATIONS = ("silu", "gelu_pytorch_tanh")
_GROWING_ROTARY = ("dynamic", "longrope")  # angles that depend on the length of the text


@dataclass(frozen=True, eq=False)
class Product:
    """``y = x W^T + b`` with W given as packed matrices one under another."""

    stack: tuple[Packed, ...]
    bias: Tensor | None


@dataclass(frozen=True, eq=False)
class Block:
    """One block: norms are float32 vectors; query_norm and key_norm are of each head, or None."""

    attention_norm: Tensor
    qkv: Product
    query_norm: Tensor | None
    key_norm: Tensor | None
    out: Product
    mlp_norm: Tensor
    gate: Product
    up: Product
    down: Product


@dataclass(frozen=True, eq=False)
class Plan:
    """A decoder of pre-norm blocks.

    Args:
        blocks: in order.
        last_norm: before the head.
        top: the head.
        embedding: the module from token ids to ``[.., hidden]``.
        heads, key_heads, head: number of query heads and key heads, and width of one.
        length: positions that the tables and caches hold.
        epsilon: of every norm.
        scale: of the scores.
        activation: of the gate, ``silu`` or ``gelu_pytorch_tanh``.
        cosine, sine: rotary tables ``[length, head / 2]``.
    """

    blocks: tuple[Block, ...]
    last_norm: Tensor
    top: Product
    embedding: nn.Module
    heads: int
    key_heads: int
    head: int
    length: int
    epsilon: float
    scale: float
    activation: str
    cosine: Tensor
    sine: Tensor

    @property
    def hidden(self) -> int:
        """Width of the residual stream."""
        return self.last_norm.numel()

    def matrices(self) -> list[Packed]:
        """Every weight matrix that a token passes, the head first."""
        products = [self.top]
        for block in self.blocks:
            products += [block.qkv, block.out, block.gate, block.up, block.down]
        return [packed for product in products for packed in product.stack]


def plan_of(model: nn.Module, length: int) -> Plan:
    """The plan of a transformers decoder with dense or packed layers, sharing its memory.

    Raises:
        UnsupportedError: a class, layer or setting that the plan has no place for.
    """
    name = type(model).__name__
    if name not in _CLASSES:
        raise UnsupportedError(
            f"{name} cannot be decoded here, only {', '.join(_CLASSES)}; use model.generate."
        )
    whole: Any = model
    config, body, offset = whole.config, whole.model, _CLASSES[name]
    attention = body.layers[0].self_attn
    activation = getattr(config, "hidden_activation", None) or config.hidden_act
    head = attention.head_dim
    _refuse(config, activation, head, length)
    with torch.no_grad():
        table = torch.zeros(1, 1, 1, device="cpu")
        cosine, sine = body.rotary_emb(table, torch.arange(length)[None])
    return Plan(
        blocks=tuple(_block(layer, offset) for layer in body.layers),
        last_norm=_norm(body.norm, offset), top=_product(whole.lm_head),
        embedding=body.embed_tokens, heads=config.num_attention_heads,
        key_heads=config.num_key_value_heads, head=head, length=length,
        epsilon=config.rms_norm_eps, scale=attention.scaling, activation=activation,
        cosine=_half(cosine), sine=_half(sine),
    )


def _refuse(config: Any, activation: str, head: int, length: int) -> None:
    """Raise UnsupportedError for a setting that changes what a block computes."""
    rotary = (getattr(config, "rope_parameters", None) or {}).get("rope_type", "default")
    window = getattr(config, "sliding_window", None)
    reasons = {
        f"the activation {activation!r}": activation not in _ACTIVATIONS,
        f"rotary positions of type {rotary!r}": rotary in _GROWING_ROTARY,
        f"a sliding window of {window} tokens, not over the {length} asked for":
            window is not None and window <= length,
        f"heads of width {head}, not a multiple of 16": head % 16 != 0,
    }
    if found := [reason for reason, holds in reasons.items() if holds]:
        raise UnsupportedError(f"Decoding here has no place for {found[0]}; use model.generate.")


def _block(layer: Any, offset: float) -> Block:
    attention, mlp = layer.self_attn, layer.mlp
    query_norm, key_norm = (getattr(attention, f"{name}_norm", None) for name in "qk")
    return Block(
        attention_norm=_norm(layer.input_layernorm, offset),
        qkv=_product(attention.q_proj, attention.k_proj, attention.v_proj),
        query_norm=None if query_norm is None else _norm(query_norm, offset),
        key_norm=None if key_norm is None else _norm(key_norm, offset),
        out=_product(attention.o_proj),
        mlp_norm=_norm(layer.post_attention_layernorm, offset),
        gate=_product(mlp.gate_proj), up=_product(mlp.up_proj), down=_product(mlp.down_proj),
    )


def _norm(norm: Any, offset: float) -> Tensor:
    weight: Tensor = norm.weight.detach().float() + offset
    return weight.contiguous()


def _product(*layers: Any) -> Product:
    stack = tuple(_packed(layer) for layer in layers)
    biases = [layer.bias for layer in layers]
    if all(bias is None for bias in biases):
        return Product(stack, None)
    rows = [torch.zeros(packed.shape[0]) if bias is None else bias.detach().float()
            for packed, bias in zip(stack, biases)]
    return Product(stack, torch.cat(rows))


def _packed(layer: nn.Module) -> Packed:
    if isinstance(layer, PackedLinear):
        return layer.packed
    if isinstance(layer, nn.Linear):
        weight = layer.weight.detach()
        return Packed("dense", (weight.shape[0], weight.shape[1]), {"values": weight.contiguous()})
    raise UnsupportedError(
        f"Decoding here has no place for the layer {type(layer).__name__}; bake or undo the edits "
        "of the model, or use model.generate."
    )


def _half(table: Tensor) -> Tensor:
    """The first half of the columns of ``[1, length, head]``; the second one repeats it."""
    return table[0, :, : table.shape[-1] // 2].float().contiguous()
