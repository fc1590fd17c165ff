"""Decoding with the cache gives the tokens of decoding without it, and every repeat is kept."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from gossamer.core import ConfigError, DataError, UnsupportedError
from gossamer.measure import decode_rate, decode_rates, generate_text
from gossamer.measure.decode import greedy
from tests import zoo


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
