"""Plan: how many tokens a budget affords, from a quick timing of this model on this machine."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch import Tensor, nn

from gossamer.cards import get_card
from gossamer.core import ConfigError, Keep, Site, select, sites, unstructured
from gossamer.layout import pack

WINDOW = 512  # tokens of an evaluation window, as perplexities are usually given
LEAST_TOKENS = 512
_MOST_CALIBRATION = 128 * 512
_SAFETY = 1.2  # quick timings are optimistic: caches are warm and nothing else runs
_RACE_SHARE = 0.15
_LEAST_RACE, _MOST_RACE = 0.5, 120.0  # seconds
_BASELINES = 2  # dense forms whose perplexity is measured
_FINISH_SECONDS = 8.0  # page and picture

# Forward passes that a calibration token costs, by the widest statistic that a system needs.
_PASSES = (("input", 6.0), ("input_gram", 3.2), ("input_sq", 2.2))
_SOLVE_PASSES = 1.5  # of as many tokens as a matrix is wide, for solvers on the Gram matrix
_FIXED_WEIGHTS = 3.2  # of one select-and-pack of all weights: report, save, checksum, load


@dataclass(frozen=True)
class Plan:
    """What is measured with.

    Args:
        sequences: calibration sequences.
        length: tokens in each.
        windows: evaluation windows.
        window: tokens in each.
        race_seconds: time for the interleaved timing of all models.
        point_seconds: expected time of a point, by system.
        setup_seconds: expected time of baselines and page.
        token_seconds: a token's forward pass in the quick timing.
        threads: threads that everything runs with.
    """

    sequences: int
    length: int
    windows: int
    window: int
    race_seconds: float
    point_seconds: dict[str, float]
    setup_seconds: float
    token_seconds: float
    threads: int

    @property
    def tokens(self) -> int:
        """Calibration tokens."""
        return self.sequences * self.length

    def to_json(self) -> dict[str, Any]:
        """Plain JSON values."""
        return asdict(self)

    @staticmethod
    def from_json(record: dict[str, Any]) -> Plan | None:
        """A plan that was saved; None where it is not one."""
        try:
            return Plan(**record)
        except TypeError:
            return None


@dataclass(frozen=True)
class Probe:
    """Quick timings of a model.

    Args:
        token: seconds of a token's forward pass.
        weight: seconds of choosing and packing one weight.
        weights: in all prunable matrices.
        mean_width: of the matrices, each weight counting once.
        threads: that were used.
    """

    token: float
    weight: float
    weights: int
    mean_width: float
    threads: int = 1


@contextmanager
def threads(count: int) -> Iterator[None]:
    """torch uses this many threads inside."""
    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def quickest(model: nn.Module, tokens: Tensor) -> Probe:
    """The probe with torch's own number of threads, or with one where that is clearly faster.

    On a machine whose cores are busy, threads wait for one another and several are slower than
    one, by up to ten times.
    """
    usual = probe(model, tokens)
    if usual.threads == 1:
        return usual
    with threads(1):
        alone = probe(model, tokens)
    return alone if alone.token < 0.8 * usual.token else usual


def probe(model: nn.Module, tokens: Tensor) -> Probe:
    """Time one window and one matrix.

    Args:
        model: the dense model.
        tokens: ids ``[1, length]``, as long as a window.
    """
    found = sites(model)
    with torch.inference_mode():
        model(tokens[:, :16])  # the first pass of all sets up threads and memory
        start = time.perf_counter()
        model(tokens)
        token = (time.perf_counter() - start) / tokens.shape[1]
    largest = max(found, key=lambda site: site.shape[0] * site.shape[1])
    weight = largest.view().float()
    start = time.perf_counter()
    support = select(weight.abs(), unstructured(), Keep.fraction(0.5))
    pack(weight, support, "bitmask", torch.bfloat16)
    each = (time.perf_counter() - start) / weight.numel()
    return Probe(token, each, sum(_weights(s) for s in found), _mean_width(found),
                 torch.get_num_threads())


def make_plan(
    timed: Probe, systems: Sequence[str], budget: float, available: tuple[int, int],
    tokens: int | None = None,
) -> Plan:
    """The tokens that the budget affords, equally many to calibrate and to measure on.

    Args:
        timed: of this model on this machine.
        systems: the system of every point.
        budget: seconds that are left.
        available: tokens in a window at most, and windows that the evaluation text has.
        tokens: fixes the number of tokens whatever the budget is.

    Raises:
        ConfigError: not even the least number of tokens fits; says what does.
    """
    window, most_windows = min(WINDOW, available[0]), available[1]
    measured = len(systems) + _BASELINES
    slope = timed.token * _SAFETY * (sum(map(_passes, systems)) + 1.05 * measured)
    fixed = _FINISH_SECONDS + _SAFETY * sum(_fixed(timed, system) for system in systems)
    left = budget * (1 - _RACE_SHARE) - fixed
    chosen = tokens if tokens is not None else int(left / slope)
    if tokens is None and chosen < LEAST_TOKENS:
        needed = (fixed + slope * LEAST_TOKENS) / (1 - _RACE_SHARE)
        raise ConfigError(
            f"The budget is too small: {len(systems)} points need about {1.1 * needed / 60:.1f} "
            f"minutes on this machine at the least, and {max(0.0, budget) / 60:.1f} are left after "
            "loading; raise it, or ask for fewer systems or targets."
        )
    windows = max(1, min(most_windows, chosen // window))
    calibration = min(chosen, _MOST_CALIBRATION)
    length = window if calibration >= 8 * window else max(1, window // 2)
    each = {
        system: _SAFETY * (_fixed(timed, system) + timed.token * (
            _passes(system) * calibration + 1.05 * windows * window))
        for system in dict.fromkeys(systems)
    }
    race = min(_MOST_RACE, max(_LEAST_RACE, budget * _RACE_SHARE))
    return Plan(
        max(1, calibration // length), length, windows, window, race, each,
        _FINISH_SECONDS + _BASELINES * timed.token * windows * window, timed.token,
        timed.threads,
    )


def _passes(system: str) -> float:
    needs = get_card(system).needs
    return next((passes for need, passes in _PASSES if need in needs), 2.2 if needs else 0.0)


def _fixed(timed: Probe, system: str) -> float:
    """Seconds of a point that do not depend on the number of tokens."""
    solve = timed.token * timed.mean_width * _SOLVE_PASSES
    gram = "input_gram" in get_card(system).needs
    return _FIXED_WEIGHTS * timed.weight * timed.weights + (solve if gram else 0.0)


def _weights(site: Site) -> int:
    return site.shape[0] * site.shape[1]


def _mean_width(found: Sequence[Site]) -> float:
    """Mean width of the matrices, each weight counting once."""
    total = sum(_weights(site) for site in found)
    return sum(_weights(site) * site.shape[1] for site in found) / max(1, total)
