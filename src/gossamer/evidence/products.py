"""Times of packed n:32 products on this CPU, one thread, against torch's dense float32."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass

import torch

from gossamer.core import nm, select
from gossamer.layout import Packed, pack
from gossamer.ops import linear

_ROUNDS = 15
# Layouts that hold n:32: with 5 bits of place inside the run, and with 16 bits of column.
_LAYOUTS = ("nm", "condensed")


@dataclass(frozen=True)
class Times:
    """Least seconds of each product, and bytes over those of the dense matrix."""

    seconds: dict[str, float]
    shares: dict[str, float]


def time_products(shape: tuple[int, int], rate: int, seed: int) -> Times:
    """Dense and packed products with one input in turn, on one thread, in its CPU time."""
    generator = torch.Generator().manual_seed(seed)
    weight, x = torch.randn(shape, generator=generator), torch.randn(1, shape[1])
    support = select(weight.abs(), nm(32 // rate, 32))
    packed = {name: pack(weight, support, name) for name in _LAYOUTS}
    calls: dict[str, Callable[[], object]] = {"dense": lambda: x @ weight.t()}
    for name, matrix in packed.items():
        calls[name] = _product(x, matrix)
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        seconds = _least(calls)
    finally:
        torch.set_num_threads(threads)
    size = weight.numel() * weight.element_size()
    return Times(seconds, {name: round(m.nbytes / size, 4) for name, m in packed.items()})


def quickest(times: Times) -> str:
    """Name of the quickest packed product."""
    return min((name for name in times.seconds if name != "dense"),
               key=lambda name: times.seconds[name])


def _product(x: torch.Tensor, packed: Packed) -> Callable[[], object]:
    return lambda: linear(x, packed)


def _least(calls: dict[str, Callable[[], object]]) -> dict[str, float]:
    least = dict.fromkeys(calls, float("inf"))
    for _ in range(_ROUNDS):
        for name, call in calls.items():
            begun = time.process_time()
            call()
            least[name] = min(least[name], time.process_time() - begun)
    return least
