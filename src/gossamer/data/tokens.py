"""Windows of tokens: random ones to calibrate with, consecutive ones to measure on."""

from __future__ import annotations

import random
import re
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from gossamer.core.errors import ConfigError, DataError
from gossamer.data.sources import Text

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

# A window of text this many characters a token long holds enough tokens in any common language.
_CHARS_PER_TOKEN = 12
# Texts longer than this many times what the windows can hold are sampled before tokenising.
_SAMPLE_ABOVE = 4


def calibration_tokens(
    text: Text,
    tokenizer: PreTrainedTokenizerBase,
    sequences: int = 128,
    length: int = 512,
    seed: int = 0,
) -> Tensor:
    """Random windows of a text: int64 ``[sequences, length]``, the same for the same seed.

    Windows start at distinct random places and may overlap. Of a text much longer than the
    windows need, only random excerpts are tokenised. No special tokens are added.

    Args:
        text: a string, or tokens ``[tokens]`` or ``[rows, tokens]``; no window crosses rows.
        tokenizer: a transformers tokenizer; its length bounds the ids of a token tensor.
        sequences: number of windows.
        length: tokens in a window.
        seed: of the random places.

    Raises:
        DataError: too few tokens (says how many were seen and needed), or an id out of range.
        ConfigError: a count below 1.
    """
    _at_least_one("sequences", sequences)
    _at_least_one("length", length)
    window = _CHARS_PER_TOKEN * length
    if isinstance(text, str) and len(text) > _SAMPLE_ABOVE * window * sequences:
        starts = random.Random(seed).sample(range(1, len(text) - window), sequences)
        encoded = _encode([_from_space(text[at:at + window]) for at in starts], tokenizer)
        if min(len(ids) for ids in encoded) >= length:
            return torch.tensor([ids[:length] for ids in encoded], dtype=torch.int64)
    rows = _rows(text, tokenizer)
    return _random_windows(rows, sequences, length, seed)


def windows(
    text: Text,
    tokenizer: PreTrainedTokenizerBase,
    length: int = 512,
    count: int | None = None,
) -> Tensor:
    """Consecutive windows from the start, without overlap: int64 ``[count, length]``.

    Args:
        text: a string, or tokens ``[tokens]`` or ``[rows, tokens]``; no window crosses rows.
        tokenizer: a transformers tokenizer.
        length: tokens in a window; what does not fill one at the end is left out.
        count: number of windows, or None for as many as there are.

    Raises:
        DataError: fewer windows than asked for, or none.
        ConfigError: a count below 1.
    """
    _at_least_one("length", length)
    _at_least_one("count", 1 if count is None else count)
    rows = _rows(text, tokenizer)
    per_row = rows.shape[1] // length
    every = rows[:, : per_row * length].reshape(-1, length)
    if len(every) < (count or 1):
        raise DataError(
            f"The text has {rows.numel()} tokens, enough for {len(every)} windows of {length}; "
            f"{(count or 1) * length} are needed for {count or 1}: give a longer text."
        )
    return every[:count].clone()


def _from_space(excerpt: str) -> str:
    """The excerpt without its first word, of which the front may be cut off."""
    space = re.search(r"\s", excerpt)
    return excerpt[space.start():] if space else excerpt


def _random_windows(rows: Tensor, sequences: int, length: int, seed: int) -> Tensor:
    places = rows.shape[1] - length + 1  # starts inside one row
    if places < 1 or places * len(rows) < sequences:
        needed = length + (sequences - 1) // max(1, len(rows))
        raise DataError(
            f"The text has {rows.shape[1]} tokens; {sequences} calibration windows of {length} "
            f"need at least {needed}: give a longer text, or fewer or shorter windows."
        )
    starts = torch.tensor(random.Random(seed).sample(range(places * len(rows)), sequences))
    columns = (starts % places)[:, None] + torch.arange(length)  # [sequences, length]
    return rows[(starts // places)[:, None], columns]


def _rows(text: Text, tokenizer: PreTrainedTokenizerBase) -> Tensor:
    """int64 ``[rows, tokens]``: a string is one row, tokens are checked against the vocabulary."""
    if isinstance(text, str):
        if not text.strip():
            raise DataError("The text is empty: 0 tokens; give at least one paragraph.")
        return torch.tensor(_encode([text], tokenizer), dtype=torch.int64)
    rows = text if text.dim() == 2 else text[None]
    if rows.dim() != 2 or rows.is_floating_point() or rows.dtype == torch.bool:
        raise DataError(
            f"Token ids must be integers of shape [tokens] or [rows, tokens], not {text.dtype} "
            f"of shape {list(text.shape)}."
        )
    if rows.numel() and not 0 <= int(rows.min()) <= int(rows.max()) < len(tokenizer):
        raise DataError(
            f"Token ids run from {int(rows.min())} to {int(rows.max())}, but the tokenizer has "
            f"ids 0 to {len(tokenizer) - 1}: these tokens were made with another tokenizer."
        )
    return rows.to(torch.int64)


def _encode(texts: list[str], tokenizer: PreTrainedTokenizerBase) -> list[list[int]]:
    # verbose=False: a text longer than the model's context is cut into windows, so no warning.
    encoded = tokenizer(texts, add_special_tokens=False, verbose=False)
    ids: list[list[int]] = encoded["input_ids"]
    return ids


def _at_least_one(name: str, value: int) -> None:
    if value < 1:
        raise ConfigError(f"{name} must be at least 1, not {value}.")
