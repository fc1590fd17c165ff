"""Perplexity against a float64 computation by hand, for every kind of head."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor, nn

from gossamer.core import DataError, UnsupportedError
from gossamer.measure import perplexity, quality, token_losses
from tests import zoo


def by_hand(model: nn.Module, windows: Tensor) -> float:
    """exp of the mean NLL in float64, one window at a time, from the model's own logits."""
    total, count = 0.0, 0
    with torch.no_grad():
        for window in windows:
            logp = model(window[None]).logits[0].double().log_softmax(-1)
            for place in range(1, len(window)):
                total -= float(logp[place - 1, window[place]])
                count += 1
    return math.exp(total / count)


@pytest.mark.parametrize("name", ["llama", "gemma", "gpt2", "opt", "bloom", "phi", "mixtral"])
@pytest.mark.parametrize("batch", [1, 2, 5])
def test_equals_the_computation_by_hand(name: str, batch: int) -> None:
    model = zoo.ZOO[name]()
    windows = zoo.inputs(name, n=3, length=13)["input_ids"]
    assert perplexity(model, windows, batch) == pytest.approx(by_hand(model, windows), rel=1e-5)


def test_head_in_small_chunks_gives_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    model = zoo.llama()
    windows = zoo.inputs("llama", n=3, length=20)["input_ids"]
    with torch.no_grad():
        assert quality._split(model, windows[:1]) is not None
    whole = token_losses(model, windows)
    monkeypatch.setattr(quality, "_LOGIT_BYTES", 4 * zoo.VOCAB * 7)  # seven positions a chunk
    assert torch.allclose(token_losses(model, windows, batch=2), whole, atol=1e-5)


def test_head_that_scales_its_logits_is_not_split() -> None:
    from transformers import CohereConfig, CohereForCausalLM
    config = CohereConfig(
        vocab_size=zoo.VOCAB, hidden_size=32, intermediate_size=48, num_hidden_layers=2,
        num_attention_heads=4, logit_scale=0.25, initializer_range=0.5, bos_token_id=1,
        eos_token_id=2, pad_token_id=0)
    model = CohereForCausalLM(config).eval()
    windows = zoo.inputs("llama", n=2, length=12)["input_ids"]
    with torch.no_grad():
        assert quality._split(model, windows[:1]) is None
    assert perplexity(model, windows) == pytest.approx(by_hand(model, windows), rel=1e-5)


def test_tokens_are_counted_exactly() -> None:
    losses = token_losses(zoo.llama(), zoo.inputs("llama", n=3, length=9)["input_ids"])
    assert losses.shape == (3, 8)
    assert losses.dtype == torch.float32


def test_a_plain_module_that_returns_logits() -> None:
    model = nn.Sequential(nn.Embedding(8, 8), nn.Linear(8, 8))
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.zero_()
    assert perplexity(model, torch.arange(8)[None]) == pytest.approx(8)


def test_training_mode_is_restored_and_progress_reported() -> None:
    model = zoo.llama().train()
    seen: list[tuple[int, int]] = []
    perplexity(model, zoo.inputs("llama", n=3)["input_ids"], 2, lambda d, n, _: seen.append((d, n)))
    assert model.training
    assert seen == [(2, 3), (3, 3)]


def test_nan_names_the_window() -> None:
    class FailsOnToken(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.scale = nn.Parameter(torch.ones(()))

        def forward(self, ids: Tensor) -> Tensor:
            logits = torch.zeros(*ids.shape, 10) * self.scale
            return torch.where((ids == 9)[..., None], torch.nan, logits)

    windows = torch.zeros(4, 6, dtype=torch.long)
    windows[2, 1] = 9
    with pytest.raises(DataError, match="window 2 is not finite"):
        perplexity(FailsOnToken(), windows, batch=3)


def test_bad_windows() -> None:
    model = zoo.llama()
    with pytest.raises(DataError, match="nothing to score"):
        perplexity(model, torch.zeros(3, 1, dtype=torch.long))
    with pytest.raises(DataError, match="nothing to score"):
        perplexity(model, torch.zeros(0, 5, dtype=torch.long))
    with pytest.raises(DataError, match="token ids"):
        perplexity(model, torch.zeros(3, 4))
    with pytest.raises(DataError, match="at least one window"):
        perplexity(model, torch.zeros(3, 4, dtype=torch.long), batch=0)


def test_other_tokenizer_is_named() -> None:
    model = nn.Sequential(nn.Embedding(20, 8), nn.Linear(8, 10))
    with pytest.raises(DataError, match="another tokenizer"):
        perplexity(model, torch.full((1, 4), 15))


def test_a_model_without_logits() -> None:
    class Pair(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.weight = nn.Parameter(torch.ones(1))

        def forward(self, ids: Tensor) -> tuple[Tensor, Tensor]:
            return ids, ids

    with pytest.raises(UnsupportedError, match="returned tuple"):
        perplexity(Pair(), torch.zeros(1, 4, dtype=torch.long))
