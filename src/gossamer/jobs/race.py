"""Race: all models decode in interleaved rounds of one session, so that times compare."""

from __future__ import annotations

import gc
import uuid
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch

from gossamer.measure import DecodeRate, Decoding, decode_rates, environment, model_bytes

PROMPT_TOKENS = 16
_LEAST_ROUNDS, _MOST_ROUNDS = 5, 25
_NEW_TOKENS = (32, 16, 8, 4)
LENGTH = PROMPT_TOKENS + _NEW_TOKENS[0] + 1  # tokens that a cache has to hold

Loader = Callable[[], Decoding]
Progress = Callable[[float, str], None]


@dataclass(frozen=True)
class Timed:
    """What the race saw of one model."""

    prefill_seconds: tuple[float, ...]
    seconds_per_token: tuple[float, ...]
    memory_bytes: int
    way: str
    kernels: tuple[str, ...]
    fallbacks: dict[str, int]


@dataclass(frozen=True)
class Race:
    """Times of all models in one session.

    Args:
        env: of the session, with its name under ``session``.
        prompt_tokens: tokens of the prefill.
        new_tokens: tokens decoded in a round.
        timed: by id.
    """

    env: dict[str, Any]
    prompt_tokens: int
    new_tokens: int
    timed: dict[str, Timed]

    def to_json(self) -> dict[str, Any]:
        """Plain JSON values."""
        return asdict(self)

    @staticmethod
    def from_json(record: Any) -> Race | None:
        """A race that was saved; None where it is not one."""
        try:
            timed = {
                id: Timed(tuple(t["prefill_seconds"]), tuple(t["seconds_per_token"]),
                          int(t["memory_bytes"]), str(t["way"]), tuple(t["kernels"]),
                          dict(t["fallbacks"]))
                for id, t in record["timed"].items()
            }
            return Race(dict(record["env"]), int(record["prompt_tokens"]),
                        int(record["new_tokens"]), timed)
        except (KeyError, TypeError, ValueError, AttributeError):
            return None


def race(
    loaders: Mapping[str, Loader], vocabulary: int, seconds: float, progress: Progress
) -> Race:
    """Time all models, with as many rounds and tokens as the seconds allow, five at the least.

    Args:
        loaders: by id; called once where all models fit into memory together, else every round.
        vocabulary: ids of the prompt are drawn below it.
        seconds: time for all rounds.
        progress: called with the share done.
    """
    prompt = torch.randint(vocabulary, (PROMPT_TOKENS,),
                           generator=torch.Generator().manual_seed(0))
    models = _Models(loaders)
    first = decode_rates(models, prompt, 2, repeats=1, warmup=1)
    rounds, new_tokens = _afford(first, seconds)

    def report(done: int, total: int, text: str) -> None:
        progress(0.2 + 0.8 * done / total, text)

    rates = decode_rates(models, prompt, new_tokens, rounds, warmup=0, progress=report)
    timed = {
        id: Timed(rate.prefill_seconds, rate.seconds_per_token, models.bytes[id], rate.way,
                  rate.kernels, dict(rate.fallbacks))
        for id, rate in rates.items()
    }
    env = {**environment(), "session": uuid.uuid4().hex}
    return Race(env, PROMPT_TOKENS, new_tokens, timed)


def _afford(rates: Mapping[str, DecodeRate], seconds: float) -> tuple[int, int]:
    """Rounds, and new tokens in each."""
    prefill = sum(rate.prefill_seconds[0] for rate in rates.values())
    token = sum(rate.seconds_per_token[0] for rate in rates.values())
    for new_tokens in _NEW_TOKENS:
        rounds = int(seconds / max(1e-9, prefill + new_tokens * token))
        if rounds >= 2 * _LEAST_ROUNDS:
            return min(rounds, _MOST_ROUNDS), new_tokens
    rounds = int(seconds / max(1e-9, prefill + _NEW_TOKENS[-1] * token))
    return max(_LEAST_ROUNDS, rounds), _NEW_TOKENS[-1]


class _Models(Mapping[str, Decoding]):
    """Models by id: all in memory where they fit, else one at a time, loaded when asked for."""

    def __init__(self, loaders: Mapping[str, Loader]) -> None:
        self._loaders = loaders
        self._kept: dict[str, Decoding] = {}
        self.bytes: dict[str, int] = {}

    def __getitem__(self, id: str) -> Decoding:
        if id not in self._kept:
            if not self._roomy():
                self._kept.clear()
                gc.collect()
            self._kept[id] = self._loaders[id]()
            self.bytes[id] = model_bytes(self._kept[id].model)
        return self._kept[id]

    def _roomy(self) -> bool:
        """True while a model as large as the largest seen still fits with half to spare."""
        return 2 * max(self.bytes.values(), default=0) < free_memory()

    def __iter__(self) -> Iterator[str]:
        return iter(self._loaders)

    def __len__(self) -> int:
        return len(self._loaders)


def free_memory() -> int:
    """Bytes that this machine can still give without swapping; unlimited where unknown."""
    path = Path("/proc/meminfo")
    if path.exists():
        for line in path.read_text(encoding="ascii").splitlines():
            if line.startswith("MemAvailable:"):
                return int(line.split()[1]) * 1024
    return 1 << 62
