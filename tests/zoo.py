"""Tiny random models of every architecture that the suite prunes, packs and saves."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

if TYPE_CHECKING:
    from transformers import PreTrainedConfig, PreTrainedTokenizerFast

VOCAB = 259  # 256 bytes and three specials, as in tiny_tokenizer
IMAGE = 16
_SHAPE = {
    "vocab_size": VOCAB, "hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2,
    "num_attention_heads": 4, "max_position_embeddings": 128, "initializer_range": 0.1,
    "bos_token_id": 256, "eos_token_id": 257, "pad_token_id": 258,
}
_GROUPED = {**_SHAPE, "num_key_value_heads": 2, "head_dim": 8}


def llama() -> nn.Module:
    """Llama with three blocks, grouped queries and an untied head."""
    from transformers import LlamaConfig
    return _decoder(LlamaConfig(**{**_GROUPED, "num_hidden_layers": 3}))


def mistral() -> nn.Module:
    """Mistral: grouped queries and a sliding window."""
    from transformers import MistralConfig
    return _decoder(MistralConfig(**_GROUPED, sliding_window=8))


def qwen2() -> nn.Module:
    """Qwen2: biases on q, k and v; tied head."""
    from transformers import Qwen2Config
    shape = {**_GROUPED, "tie_word_embeddings": True}
    return _decoder(Qwen2Config(**shape))


def qwen3() -> nn.Module:
    """Qwen3: norms on queries and keys, head width apart from hidden / heads; tied head."""
    from transformers import Qwen3Config
    return _decoder(Qwen3Config(**{**_GROUPED, "head_dim": 16, "tie_word_embeddings": True}))


def gemma() -> nn.Module:
    """Gemma: one key head, scaled embeddings, tied head."""
    from transformers import GemmaConfig
    return _decoder(GemmaConfig(**{**_GROUPED, "num_key_value_heads": 1}))


def opt() -> nn.Module:
    """OPT: learned positions, biases everywhere, tied head."""
    from transformers import OPTConfig
    return _decoder(OPTConfig(
        vocab_size=VOCAB, hidden_size=32, ffn_dim=64, num_hidden_layers=2, num_attention_heads=4,
        max_position_embeddings=128, word_embed_proj_dim=32, init_std=0.1, bos_token_id=256,
        eos_token_id=257, pad_token_id=258,
    ))


def gpt2() -> nn.Module:
    """GPT-2: Conv1D layers that store [in, out], fused q, k, v; tied head."""
    from transformers import GPT2Config
    return _decoder(GPT2Config(
        vocab_size=VOCAB, n_embd=32, n_layer=2, n_head=4, n_positions=128, initializer_range=0.1,
        bos_token_id=256, eos_token_id=257,
    ))


def gpt_neox() -> nn.Module:
    """GPT-NeoX: fused q, k, v interleaved by head, parallel residual."""
    from transformers import GPTNeoXConfig
    return _decoder(GPTNeoXConfig(**{**_SHAPE, "intermediate_size": 64}))


def phi() -> nn.Module:
    """Phi: partial rotary, parallel residual, a head with bias."""
    from transformers import PhiConfig
    return _decoder(PhiConfig(**_SHAPE))


def falcon() -> nn.Module:
    """Falcon: multi-query attention in one fused matrix, Linear subclasses."""
    from transformers import FalconConfig
    return _decoder(FalconConfig(
        vocab_size=VOCAB, hidden_size=32, num_hidden_layers=2, num_attention_heads=4,
        initializer_range=0.1, bos_token_id=256, eos_token_id=257, pad_token_id=258,
    ))


def bloom() -> nn.Module:
    """Bloom: fused q, k, v interleaved by head, ALiBi; tied head."""
    from transformers import BloomConfig
    return _decoder(BloomConfig(
        vocab_size=VOCAB, hidden_size=32, n_layer=2, n_head=4, initializer_range=0.1,
        bos_token_id=256, eos_token_id=257, pad_token_id=258,
    ))


def mixtral() -> nn.Module:
    """Mixtral: four stacked experts a block, two chosen."""
    from transformers import MixtralConfig
    return _decoder(MixtralConfig(**_GROUPED, num_local_experts=4, num_experts_per_tok=2))


def qwen3_moe() -> nn.Module:
    """Qwen3-MoE: four stacked experts narrower than the dense MLP, two chosen."""
    from transformers import Qwen3MoeConfig
    return _decoder(Qwen3MoeConfig(
        **_GROUPED, moe_intermediate_size=24, num_experts=4, num_experts_per_tok=2,
    ))


def bert() -> nn.Module:
    """BERT with its masked-language head."""
    from transformers import BertConfig, BertForMaskedLM
    shape = {k: v for k, v in _SHAPE.items() if k not in ("bos_token_id", "eos_token_id")}
    return _seeded(lambda: BertForMaskedLM(BertConfig(**shape)))


def vit() -> nn.Module:
    """ViT image classifier with five classes."""
    from transformers import ViTConfig, ViTForImageClassification
    return _seeded(lambda: ViTForImageClassification(ViTConfig(
        hidden_size=32, intermediate_size=48, num_hidden_layers=2, num_attention_heads=4,
        image_size=IMAGE, patch_size=4, num_labels=5, initializer_range=0.1,
    )))


ZOO: Mapping[str, Callable[[], nn.Module]] = MappingProxyType({
    "llama": llama, "mistral": mistral, "qwen2": qwen2, "qwen3": qwen3, "gemma": gemma,
    "opt": opt, "gpt2": gpt2, "gpt_neox": gpt_neox, "phi": phi, "falcon": falcon,
    "bloom": bloom, "mixtral": mixtral, "qwen3_moe": qwen3_moe, "bert": bert, "vit": vit,
})
CAUSAL = tuple(name for name in ZOO if name not in ("bert", "vit"))


def inputs(name: str, n: int = 2, seed: int = 0, length: int = 16) -> dict[str, Tensor]:
    """Arguments of the model's forward: ``input_ids [n, length]`` or ``pixel_values``."""
    generator = torch.Generator().manual_seed(seed)
    if name == "vit":
        return {"pixel_values": torch.randn(n, 3, IMAGE, IMAGE, generator=generator)}
    return {"input_ids": torch.randint(0, 256, (n, length), generator=generator)}


def tiny_tokenizer() -> PreTrainedTokenizerFast:
    """Byte-level tokenizer: a token a byte (id = byte), then ``<s>``, ``</s>`` and ``<pad>``."""
    from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast
    vocab = {letter: byte for byte, letter in enumerate(_byte_letters())}
    core = Tokenizer(models.BPE(vocab=vocab, merges=[]))
    core.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    core.decoder = decoders.ByteLevel()
    core.add_special_tokens([AddedToken(t, special=True) for t in ("<s>", "</s>", "<pad>")])
    return PreTrainedTokenizerFast(
        tokenizer_object=core, bos_token="<s>", eos_token="</s>", pad_token="<pad>",
    )


def _byte_letters() -> list[str]:
    """The printable letter that byte-level BPE writes for every byte, as GPT-2 defined it."""
    plain = [*range(33, 127), *range(161, 173), *range(174, 256)]
    others = [byte for byte in range(256) if byte not in plain]
    letters = {byte: chr(byte) for byte in plain}
    letters |= {byte: chr(256 + place) for place, byte in enumerate(others)}
    return [letters[byte] for byte in range(256)]


def _decoder(config: PreTrainedConfig) -> nn.Module:
    from transformers import AutoModelForCausalLM
    return _seeded(lambda: AutoModelForCausalLM.from_config(config, dtype=torch.float32))


def _seeded(build: Callable[[], nn.Module]) -> nn.Module:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return build().eval()
