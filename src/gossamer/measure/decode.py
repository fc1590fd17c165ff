"""Decoding speed at batch 1: greedy, with a key-value cache, prefill timed apart."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from gossamer.core import ConfigError, DataError
from gossamer.measure.timing import Interval, median_interval, synchronize
from gossamer.measure.ways import Decoding, greedy, quickest_decoding
from gossamer.ops import fallbacks


@dataclass(frozen=True)
class DecodeRate:
    """Repeated timings of one model that decodes greedily at batch 1.

    Args:
        prompt_tokens: tokens of the prompt.
        new_tokens: tokens decoded after the prefill, in each repeat.
        prefill_seconds: seconds of the prompt's forward pass, one a repeat.
        seconds_per_token: mean seconds of a decoded token, one a repeat.
        threads: threads that torch used.
        way: ``transformers`` or ``gossamer's Decoder``.
        kernels: what computed the matrices of a decoded token.
        fallbacks: products of packed layers that no kernel covered in these repeats,
            ``{"layout: why": times}``.
    """

    prompt_tokens: int
    new_tokens: int
    prefill_seconds: tuple[float, ...]
    seconds_per_token: tuple[float, ...]
    threads: int
    way: str
    kernels: tuple[str, ...]
    fallbacks: Mapping[str, int] = field(default_factory=dict)

    @property
    def tokens_per_second(self) -> float:
        """Decoded tokens a second, the median of the repeats."""
        return 1 / self.spread.mid

    @property
    def spread(self) -> Interval:
        """Seconds a token: median and its interval."""
        return median_interval(self.seconds_per_token)


def decode_rate(
    model: nn.Module | Decoding, prompt: Tensor, new_tokens: int = 16, repeats: int = 5,
    warmup: int = 1,
) -> DecodeRate:
    """Tokens a second of one model; see `decode_rates` to compare several."""
    return decode_rates({"model": model}, prompt, new_tokens, repeats, warmup)["model"]


def decode_rates(
    models: Mapping[str, nn.Module | Decoding],
    prompt: Tensor,
    new_tokens: int = 16,
    repeats: int = 5,
    warmup: int = 1,
    progress: Callable[[int, int, str], None] | None = None,
) -> dict[str, DecodeRate]:
    """Decoding speed of several models in interleaved rounds, so that ratios are fair.

    Every round runs each model once: prefill of the prompt, then ``new_tokens`` greedy steps
    with the key-value cache. End-of-text tokens do not stop it. A model is timed by the quickest
    way that it supports, see `quickest_decoding`; a `Decoding` says which way to take.

    Args:
        models: causal language models of transformers by name, or ways to decode them. A mapping
            of ways is asked again in every round, so that it may load one model at a time.
        prompt: token ids ``[length]`` or ``[1, length]``.
        new_tokens: steps timed in a repeat.
        repeats: rounds that count.
        warmup: rounds before them that do not.
        progress: called with (rounds done, rounds in all, name of the model).
    """
    if min(new_tokens, repeats) < 1 or warmup < 0:
        raise ConfigError(
            f"Decoding needs new_tokens and repeats of at least 1 and warmup of at least 0, not "
            f"{new_tokens}, {repeats} and {warmup}."
        )
    ids = prompt.reshape(1, -1)
    if ids.shape[1] < 1 or ids.is_floating_point():
        raise DataError("Decoding needs a prompt of at least one token id.")
    length = ids.shape[1] + new_tokens + 1
    chosen: dict[str, Decoding] = {}
    seen: dict[str, list[tuple[float, float]]] = {name: [] for name in models}
    how: dict[str, tuple[str, tuple[str, ...]]] = {}
    missed: dict[str, Counter[str]] = {name: Counter() for name in models}
    for turn in range(warmup + repeats):
        for name in models:
            if progress is not None:
                progress(turn, warmup + repeats, name)
            given = models[name]
            if isinstance(given, nn.Module):
                given = chosen[name] = chosen.get(name) or quickest_decoding(given, length)
            with fallbacks() as without:
                timed = _timed(given, ids, new_tokens)
            how[name] = given.way, given.kernels
            if turn >= warmup:
                seen[name].append(timed)
                missed[name] += without
    return {
        name: DecodeRate(
            ids.shape[1], new_tokens, tuple(p for p, _ in times), tuple(s for _, s in times),
            torch.get_num_threads(), *how[name], dict(missed[name]),
        )
        for name, times in seen.items()
    }


def _timed(decoding: Decoding, ids: Tensor, new_tokens: int) -> tuple[float, float]:
    """Seconds of the prefill, and of one decoded token."""
    with torch.inference_mode():
        steps = decoding.steps(ids)
        synchronize()
        start = time.perf_counter()
        next(steps)
        synchronize()
        filled = time.perf_counter()
        for _ in range(new_tokens):
            next(steps)
        synchronize()
        end = time.perf_counter()
    return filled - start, (end - filled) / new_tokens


def generate_text(model: nn.Module, tokenizer: Any, prompt: str, new_tokens: int = 32) -> str:
    """The greedy continuation of a prompt, without the prompt, up to the end-of-text token."""
    ids = torch.tensor([tokenizer(prompt)["input_ids"]])
    if ids.shape[1] == 0:
        raise DataError("The prompt holds no token; give at least one word.")
    made: list[int] = []
    with torch.inference_mode():
        for token in greedy(model, ids):
            made.append(int(token))
            if made[-1] == tokenizer.eos_token_id or len(made) >= new_tokens:
                break
    text: str = tokenizer.decode(made, skip_special_tokens=True)
    return text
