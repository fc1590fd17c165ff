"""Decoding with the cache gives the tokens of decoding without it, and every repeat is kept."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from gossamer import native
from gossamer.core import ConfigError, DataError, UnsupportedError
from gossamer.measure import (
    Point,
    by_decoder,
    by_transformers,
    decode_rate,
    decode_rates,
    decoder_takes,
    generate_text,
    quickest_decoding,
    verdict,
)
from gossamer.measure.ways import greedy
from gossamer.ops import PackedLinear
from tests import zoo
from tests.ops.test_decode import small


@pytest.mark.parametrize("name", ["llama", "gpt2", "mixtral"])
def test_greedy_with_cache_equals_greedy_without(name: str) -> None:
    model, ids = zoo.ZOO[name](), zoo.inputs(name, n=1, length=7)["input_ids"]
    grown = ids
    with torch.no_grad():
        for token, _ in zip(greedy(model, ids), range(10)):
            expected = model(grown).logits[:, -1:].argmax(-1)
            assert torch.equal(token, expected)
            grown = torch.cat([grown, expected], 1)


def test_rates_have_every_repeat() -> None:
    models = {"a": zoo.llama(), "b": zoo.gpt2()}
    seen: list[tuple[int, int, str]] = []
    rates = decode_rates(
        models, torch.arange(5), new_tokens=3, repeats=4, warmup=1,
        progress=lambda done, total, text: seen.append((done, total, text)))
    assert list(rates) == ["a", "b"]
    for rate in rates.values():
        assert (rate.prompt_tokens, rate.new_tokens) == (5, 3)
        assert len(rate.seconds_per_token) == len(rate.prefill_seconds) == 4
        assert rate.tokens_per_second == pytest.approx(1 / rate.spread.mid)
        assert rate.tokens_per_second > 0
    assert len(seen) == 10
    assert seen[0] == (0, 5, "a")


def test_one_model() -> None:
    assert decode_rate(zoo.llama(), torch.arange(4), 2, repeats=1).tokens_per_second > 0


def test_each_model_takes_the_quickest_way_that_it_supports() -> None:
    rates = decode_rates({"llama": small("Llama"), "gpt2": zoo.gpt2()}, torch.arange(1, 6), 3, 2)
    assert rates["llama"].way == "gossamer's Decoder"
    assert rates["llama"].kernels == (f"{native.isa()} kernel for dense float32",)
    assert (rates["gpt2"].way, rates["gpt2"].kernels) == ("transformers", ("torch",))


def test_a_way_that_is_given_is_taken() -> None:
    model, ids = small("Llama"), torch.arange(1, 6)
    assert decoder_takes(model)
    rates = decode_rates({"own": by_decoder(model, 16), "torch": by_transformers(model)}, ids, 3, 2)
    assert [rate.way for rate in rates.values()] == ["gossamer's Decoder", "transformers"]


def test_without_compiled_kernels_transformers_decodes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(native, "core", None)
    assert quickest_decoding(small("Llama"), 16).way == "transformers"
    assert not decoder_takes(zoo.gpt2())


def test_all_ways_decode_the_same_tokens() -> None:
    model, ids = small("Qwen2"), torch.arange(1, 6)[None]
    ways = [by_decoder(model, 32), by_transformers(model)]
    with torch.inference_mode():
        made = [[int(t) for t, _ in zip(way.steps(ids), range(12))] for way in ways]
    assert made[0] == made[1]


def test_packed_layers_name_their_kernels() -> None:
    model = zoo.gpt2()
    model.transformer.h[0].mlp.c_fc = PackedLinear.from_linear(
        torch.eye(32, 16), None, None, "bitmask", torch.bfloat16)
    assert by_transformers(model).kernels == (f"{native.isa()} kernel for bitmask",)


def test_generated_text_is_decoded_and_stops() -> None:
    text = generate_text(zoo.llama(), zoo.tiny_tokenizer(), "Hello", new_tokens=6)
    assert isinstance(text, str)
    assert not text.startswith("Hello")


def test_bad_input() -> None:
    with pytest.raises(ConfigError, match="at least 1"):
        decode_rate(zoo.llama(), torch.arange(4), new_tokens=0)
    with pytest.raises(DataError, match="prompt"):
        decode_rate(zoo.llama(), torch.zeros(0, dtype=torch.long))
    with pytest.raises(DataError, match="prompt"):
        generate_text(zoo.llama(), zoo.tiny_tokenizer(), "")
    with pytest.raises(UnsupportedError, match="past_key_values"):
        decode_rate(nn.Linear(3, 3), torch.arange(4))


def test_products_without_a_kernel_are_counted_and_told() -> None:
    model = zoo.gpt2()
    weight = model.transformer.h[0].mlp.c_fc.weight.detach().t()
    layer = PackedLinear.from_linear(weight, None, None, "csr", torch.float16)
    model.transformer.h[0].mlp.c_fc = layer
    rate = decode_rate(model, torch.arange(4), new_tokens=3, repeats=2)
    assert sum(rate.fallbacks.values()) == 2 * (1 + 3)  # prefill and three tokens, twice
    assert "float16" in next(iter(rate.fallbacks))
    point = Point({"id": "p", "label": "p"}, {}, {"seconds_per_token": rate.seconds_per_token},
                  fallbacks=rate.fallbacks)
    words = verdict(point, Point({"id": "dense"})).words
    assert "8 dense products of unpacked matrices, which no kernel covered (csr: " in words
    assert decode_rate(small("Llama"), torch.arange(1, 6), 2, 1).fallbacks == {}
