"""The zoo models run, and core finds exactly the prunable matrices of every architecture."""

from __future__ import annotations

import pytest
import torch

from gossamer.core import blocks, sites
from tests.zoo import CAUSAL, VOCAB, ZOO, inputs, tiny_tokenizer

_LLAMA = {
    "self_attn.q_proj.weight": (32, 32), "self_attn.k_proj.weight": (16, 32),
    "self_attn.v_proj.weight": (16, 32), "self_attn.o_proj.weight": (32, 32),
    "mlp.gate_proj.weight": (48, 32), "mlp.up_proj.weight": (48, 32),
    "mlp.down_proj.weight": (32, 48),
}
_ATTENTION = {name: shape for name, shape in _LLAMA.items() if name.startswith("self_attn")}


def _experts(width: int) -> dict[str, tuple[int, int]]:
    first = {f"mlp.experts.gate_up_proj[{e}]": (2 * width, 32) for e in range(4)}
    return _ATTENTION | first | {f"mlp.experts.down_proj[{e}]": (32, width) for e in range(4)}


def _fused(attention: str, qkv: int) -> dict[str, tuple[int, int]]:
    return {
        f"{attention}.query_key_value.weight": (qkv, 32), f"{attention}.dense.weight": (32, 32),
    }


_SQUARE = {f"self_attn.{n}_proj.weight": (32, 32) for n in "qkv"}
_NEOX_MLP = {"mlp.dense_h_to_4h.weight": (64, 32), "mlp.dense_4h_to_h.weight": (32, 64)}
_WIDE_MLP = {"mlp.dense_h_to_4h.weight": (128, 32), "mlp.dense_4h_to_h.weight": (32, 128)}

# What one block of each architecture holds, written down from the papers' layer lists.
EXPECTED = {
    "llama": _LLAMA, "mistral": _LLAMA, "qwen2": _LLAMA,
    "qwen3": _LLAMA | {
        "self_attn.q_proj.weight": (64, 32), "self_attn.k_proj.weight": (32, 32),
        "self_attn.v_proj.weight": (32, 32), "self_attn.o_proj.weight": (32, 64),
    },
    "gemma": _LLAMA | {"self_attn.k_proj.weight": (8, 32), "self_attn.v_proj.weight": (8, 32)},
    "opt": _SQUARE | {
        "self_attn.out_proj.weight": (32, 32), "fc1.weight": (64, 32), "fc2.weight": (32, 64),
    },
    "gpt2": {
        "attn.c_attn.weight": (96, 32), "attn.c_proj.weight": (32, 32),
        "mlp.c_fc.weight": (128, 32), "mlp.c_proj.weight": (32, 128),
    },
    "gpt_neox": _fused("attention", 96) | _NEOX_MLP,
    "phi": _SQUARE | {
        "self_attn.dense.weight": (32, 32), "mlp.fc1.weight": (48, 32), "mlp.fc2.weight": (32, 48),
    },
    "falcon": _fused("self_attention", 48) | _WIDE_MLP,
    "bloom": _fused("self_attention", 96) | _WIDE_MLP,
    "mixtral": _experts(48), "qwen3_moe": _experts(24),
    "bert": {f"attention.self.{n}.weight": (32, 32) for n in ("query", "key", "value")} | {
        "attention.output.dense.weight": (32, 32), "intermediate.dense.weight": (48, 32),
        "output.dense.weight": (32, 48),
    },
    "vit": {f"attention.{n}_proj.weight": (32, 32) for n in "qkvo"} | {
        "mlp.fc1.weight": (48, 32), "mlp.fc2.weight": (32, 48),
    },
}


@pytest.mark.parametrize("name", list(ZOO))
def test_sites_and_blocks_are_the_architectures_own(name: str) -> None:
    model = ZOO[name]()
    found = blocks(model)
    assert len(found) == (3 if name == "llama" else 2)
    expected = {
        f"{path}.{inner}": shape for path, _ in found for inner, shape in EXPECTED[name].items()
    }
    assert {site.name: site.shape for site in sites(model)} == expected


@pytest.mark.parametrize("name", list(ZOO))
def test_building_twice_gives_the_same_finite_outputs(name: str) -> None:
    state = torch.random.get_rng_state()
    with torch.inference_mode():
        first = ZOO[name]()(**inputs(name, 2, seed=3)).logits
        again = ZOO[name]()(**inputs(name, 2, seed=3)).logits
    assert torch.equal(first, again)
    assert torch.isfinite(first).all()
    assert first.shape[-1] == (5 if name == "vit" else VOCAB)
    assert torch.equal(state, torch.random.get_rng_state())


@pytest.mark.parametrize("name", CAUSAL)
def test_decoders_are_causal(name: str) -> None:
    model, batch = ZOO[name](), inputs(name, 1, seed=1)
    changed = batch["input_ids"].clone()
    changed[0, -1] = (changed[0, -1] + 1) % 256
    with torch.inference_mode():
        before = model(**batch).logits[0, :-1]
        after = model(input_ids=changed).logits[0, :-1]
    torch.testing.assert_close(before, after)


def test_tiny_tokenizer_is_one_token_a_byte() -> None:
    tokenizer = tiny_tokenizer()
    text = "Anne, 27 — née Élliot\n\n"
    ids = tokenizer(text, add_special_tokens=False)["input_ids"]
    assert ids == list(text.encode())
    assert tokenizer.decode(ids) == text
    assert (tokenizer.bos_token_id, tokenizer.eos_token_id, tokenizer.pad_token_id) == (
        256, 257, 258,
    )
    assert len(tokenizer) == VOCAB
