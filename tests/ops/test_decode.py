"""Decoding token by token gives what the model itself gives for the whole text at once."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from gossamer import native
from gossamer.core import ConfigError, DataError, Keep, UnsupportedError, nm, rows, select, sites
from gossamer.edit import Swap, apply
from gossamer.ops import PackedLinear
from gossamer.ops.decode import Decoder, plan_of, reference
from tests.zoo import ZOO

NAMES = ("Llama", "Mistral", "Qwen2", "Qwen3", "Gemma")


def small(name: str, **changes: Any) -> nn.Module:
    """Three blocks with heads of width 16, grouped queries, and norms and biases that matter."""
    import transformers
    shape = {
        "vocab_size": 101, "hidden_size": 48, "intermediate_size": 80, "num_hidden_layers": 3,
        "num_attention_heads": 6, "num_key_value_heads": 2, "head_dim": 16, "pad_token_id": 0,
        "max_position_embeddings": 128, "initializer_range": 0.2,
    }
    if name == "Mistral":
        shape["sliding_window"] = None
    config = getattr(transformers, f"{name}Config")(**{**shape, **changes})
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = getattr(transformers, f"{name}ForCausalLM")(config).eval()
        for key, parameter in model.named_parameters():
            if "norm" in key or "bias" in key:
                middle = 1.0 if "norm" in key and name != "Gemma" else 0.0
                nn.init.normal_(parameter, middle, 0.3)
    return model


def text(length: int = 24) -> Tensor:
    return torch.randint(1, 101, (1, length), generator=torch.Generator().manual_seed(1))


def steps(decoder: Decoder, ids: Tensor, prompt: int) -> Tensor:
    """Logits ``[steps, vocab]`` after the prompt and after every further token."""
    logits = [decoder.read(ids[:, :prompt])]
    logits += [decoder.step(int(token)) for token in ids[0, prompt:]]
    return torch.stack(logits)


@pytest.fixture(params=native.isas())
def isa(request: pytest.FixtureRequest) -> Iterator[str]:
    """Every instruction set of this machine in turn."""
    before = native.isa()
    native.set_isa(request.param)
    yield request.param
    native.set_isa(before)


@pytest.fixture(params=[1, 2, 3])
def threads(request: pytest.FixtureRequest) -> Iterator[int]:
    """Teams of one, of as many as the machine has, and of more."""
    before = torch.get_num_threads()
    torch.set_num_threads(request.param)
    yield request.param
    torch.set_num_threads(before)


@pytest.mark.parametrize("prompt", [1, 7, 23])
@pytest.mark.parametrize("name", NAMES)
def test_steps_equal_the_whole_text(name: str, prompt: int, isa: str) -> None:
    model, ids = small(name), text()
    decoder = Decoder(model, 24)
    assert decoder.explain().startswith(isa)
    with torch.inference_mode():
        whole = model(ids).logits[0, prompt - 1:]
    torch.testing.assert_close(steps(decoder, ids, prompt), whole, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("name", NAMES)
def test_any_team_gives_the_same(name: str, threads: int) -> None:
    model, ids = small(name, tie_word_embeddings=False), text()
    with torch.inference_mode():
        whole = model(ids).logits[0, 4:]
    torch.testing.assert_close(steps(Decoder(model, 64), ids, 5), whole, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("layout", ["dense", "bitmask", "nm", "csr", "condensed"])
def test_packed_layers_against_the_reference_in_float64(layout: str, dtype: torch.dtype) -> None:
    model, ids = small("Qwen2", tie_word_embeddings=False), text(12)
    pattern, keep = (nm(2, 4), None) if layout == "nm" else (rows(), Keep.fraction(0.4))
    swaps = []
    for site in sites(model):
        support = select(site.view().abs(), pattern, keep) if layout != "dense" else None
        swaps.append(Swap(site, PackedLinear.from_linear(
            site.view(), site.module.bias, support, layout, dtype)))
    apply(model, swaps).bake()
    decoder = Decoder(model, 16)
    seen = steps(decoder, ids, 1)
    plan = plan_of(model, 16)
    shape = (len(plan.blocks), plan.key_heads)
    keys = torch.zeros(*shape, 16, plan.head, dtype=torch.float64)
    values = torch.zeros(*shape, plan.head, 16, dtype=torch.float64)
    truth = [reference.step(plan, plan.embedding(token).detach().double(), place, keys, values)
             for place, token in enumerate(ids[0])]
    # Positions come from a float32 table on both sides.
    torch.testing.assert_close(seen.double(), torch.stack(truth), rtol=1e-4, atol=2e-5)


def test_the_reference_decodes_where_kernels_do_not(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(native, "core", None)
    model, ids = small("Qwen3"), text(10)
    decoder = Decoder(model, 16)
    assert decoder.explain().startswith("reference")
    with torch.inference_mode():
        whole = model(ids).logits[0, 3:]
    torch.testing.assert_close(steps(decoder, ids, 4), whole, rtol=1e-4, atol=1e-5)


def test_generate_is_the_models_own_greedy_text() -> None:
    model, ids = small("Llama"), text(6)
    wanted = model.generate(ids, max_new_tokens=20, do_sample=False, eos_token_id=None)
    decoder = Decoder(model, 32)
    made = decoder.generate(ids, 20)
    assert made == wanted[0, 6:].tolist()
    assert decoder.generate(ids[0], 20, stop=made[3]) == made[:made.index(made[3]) + 1]
    assert decoder.generate(ids, 0) == []


def test_weights_changed_in_place_are_seen() -> None:
    model, ids = small("Llama"), text(8)
    decoder = Decoder(model, 16)
    with torch.no_grad():
        model.model.layers[1].mlp.down_proj.weight.mul_(-1)
        whole = model(ids).logits[0, 2:]
    torch.testing.assert_close(steps(decoder, ids, 3), whole, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(("name", "changes", "message"), [
    ("Llama", {"head_dim": 8}, "width 8"), ("Llama", {"hidden_act": "relu"}, "'relu'"),
    ("Mistral", {"sliding_window": 16}, "sliding window of 16"),
    ("Llama", {"rope_parameters": {"rope_type": "dynamic", "rope_theta": 1e4, "factor": 2.0}},
     "'dynamic'"),
])
def test_settings_that_have_no_place(name: str, changes: dict[str, Any], message: str) -> None:
    with pytest.raises(UnsupportedError, match=message):
        Decoder(small(name, **changes), 32)


def test_models_and_layers_that_have_no_place() -> None:
    with pytest.raises(UnsupportedError, match=r"GPT2LMHeadModel .* model\.generate"):
        Decoder(ZOO["gpt2"]())
    model = small("Llama")
    model.model.layers[0].mlp.up_proj = nn.Sequential(nn.Linear(48, 80, bias=False))
    with pytest.raises(UnsupportedError, match="the layer Sequential"):
        Decoder(model)


def test_prompts_and_lengths_that_do_not_fit() -> None:
    decoder = Decoder(small("Llama"), 16)
    with pytest.raises(DataError, match="read a prompt first"):
        decoder.step(3)
    with pytest.raises(DataError, match="1 to 16 tokens, not 17"):
        decoder.read(text(17))
    with pytest.raises(DataError, match="not 0"):
        decoder.read(text(0))
    decoder.read(text(16))
    with pytest.raises(DataError, match="16 of 16"):
        decoder.step(3)
    with pytest.raises(ConfigError, match="at least 1, not 0"):
        Decoder(small("Llama"), 0)
