"""Windows are slices of the tokens, random or consecutive, and never invented."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from gossamer.core import ConfigError, DataError
from gossamer.data import calibration_tokens, read_text, windows
from tests.zoo import VOCAB, tiny_tokenizer

TOKENIZER = tiny_tokenizer()
TEXT = "It is a truth universally acknowledged.\n" * 30


@given(st.integers(1, 9), st.integers(1, 40), st.integers(0, 5))
@settings(max_examples=30, deadline=None)
def test_calibration_windows_are_distinct_slices(sequences: int, length: int, seed: int) -> None:
    stream = torch.randperm(200, generator=torch.Generator().manual_seed(seed))
    tokens = calibration_tokens(stream, TOKENIZER, sequences, length, seed)
    assert tokens.shape == (sequences, length)
    starts = [int((stream == row[0]).nonzero()) for row in tokens]
    assert len(set(starts)) == sequences
    for row, start in zip(tokens, starts):
        assert torch.equal(row, stream[start:start + length])


def test_the_seed_alone_decides_the_windows() -> None:
    torch.manual_seed(1)
    first = calibration_tokens(TEXT, TOKENIZER, 8, 64, seed=3)
    torch.manual_seed(2)
    assert torch.equal(first, calibration_tokens(TEXT, TOKENIZER, 8, 64, seed=3))
    assert not torch.equal(first, calibration_tokens(TEXT, TOKENIZER, 8, 64, seed=4))
    assert all(TOKENIZER.decode(row) in TEXT for row in first)


def test_a_long_text_is_sampled_and_every_window_lies_in_it() -> None:
    text = read_text("embedded:evaluation")
    assert isinstance(text, str)
    tokens = calibration_tokens(text, TOKENIZER, sequences=20, length=48, seed=0)
    assert tokens.shape == (20, 48)
    starts = [text.index(TOKENIZER.decode(row)) for row in tokens]
    assert max(starts) - min(starts) > len(text) / 2
    again = calibration_tokens(text, TOKENIZER, sequences=20, length=48, seed=0)
    assert torch.equal(tokens, again)


def test_rows_are_never_crossed() -> None:
    rows = torch.arange(12)[:, None] * 10 + torch.arange(10)  # row r holds 10r .. 10r + 9
    tokens = calibration_tokens(rows, TOKENIZER, sequences=60, length=6)
    assert torch.equal(tokens[:, 0] // 10, tokens[:, -1] // 10)
    assert len({int(row[0]) for row in tokens}) == 60
    assert torch.equal(windows(rows, TOKENIZER, 5)[:3], torch.tensor(
        [[0, 1, 2, 3, 4], [5, 6, 7, 8, 9], [10, 11, 12, 13, 14]]
    ))


def test_consecutive_windows_are_the_text_in_order() -> None:
    tokens = windows(TEXT, TOKENIZER, length=100)
    assert tokens.shape == (len(TEXT) // 100, 100)
    assert TOKENIZER.decode(tokens.flatten()) == TEXT[: tokens.numel()]
    assert torch.equal(windows(TEXT, TOKENIZER, length=100, count=3), tokens[:3])


@pytest.mark.parametrize("text", ["", "  \n"])
def test_empty_text(text: str) -> None:
    for call in (calibration_tokens, windows):
        with pytest.raises(DataError, match="empty: 0 tokens"):
            call(text, TOKENIZER)


def test_short_text_names_the_tokens_seen_and_needed() -> None:
    with pytest.raises(DataError, match=r"has 40 tokens; 128 .* of 512 need at least 639"):
        calibration_tokens("x" * 40, TOKENIZER)
    with pytest.raises(DataError, match=r"has 40 tokens, .* 0 windows of 512; 512 are needed"):
        windows("x" * 40, TOKENIZER)
    with pytest.raises(DataError, match=r"has 40 tokens, .* 4 windows of 10; 50 are needed"):
        windows("x" * 40, TOKENIZER, 10, count=5)
    assert calibration_tokens("x" * 12, TOKENIZER, 3, 10).shape == (3, 10)
    with pytest.raises(DataError, match="need at least 12"):
        calibration_tokens("x" * 11, TOKENIZER, 3, 10)


@pytest.mark.parametrize(("tokens", "message"), [
    (torch.tensor([0, VOCAB]), f"0 to {VOCAB}.*ids 0 to {VOCAB - 1}"),
    (torch.tensor([-1, 3]), "from -1 to 3"),
    (torch.ones(4), "float32"),
    (torch.ones(2, 2, 2, dtype=torch.long), r"\[2, 2, 2\]"),
    (torch.empty(0, dtype=torch.long), "0 tokens"),
])
def test_bad_tokens(tokens: torch.Tensor, message: str) -> None:
    for call in (calibration_tokens, windows):
        with pytest.raises(DataError, match=message):
            call(tokens, TOKENIZER)


def test_counts_below_one() -> None:
    with pytest.raises(ConfigError, match="sequences must be at least 1, not 0"):
        calibration_tokens(TEXT, TOKENIZER, sequences=0)
    with pytest.raises(ConfigError, match="length"):
        windows(TEXT, TOKENIZER, length=0)
    with pytest.raises(ConfigError, match="count"):
        windows(TEXT, TOKENIZER, count=0)
