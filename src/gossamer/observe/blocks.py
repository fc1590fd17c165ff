"""What every block of a model is called with, found by one pass with the blocks stood in for."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from gossamer.core.errors import UnsupportedError

Batch = dict[str, Tensor]


@dataclass
class Call:
    """The arguments of one call of a block, its hidden states taken out."""

    args: tuple[Any, ...]
    kwargs: dict[str, Any]
    by_name: bool  # hidden states were passed as hidden_states=

    def run(self, block: nn.Module, hidden: Tensor, device: torch.device) -> Tensor:
        """Call the block and return its hidden states."""
        args, kwargs = to_device((self.args, self.kwargs), device)
        if self.by_name:
            return hidden_of(block(*args, **{**kwargs, "hidden_states": hidden}))
        return hidden_of(block(hidden, *args, **kwargs))


@dataclass
class Calls:
    """First hidden states and the calls ``[batch][block]``."""

    hidden: list[Tensor] = field(default_factory=list)
    calls: list[list[Call]] = field(default_factory=list)


class _Reached(BaseException):
    """Every block has been called; the rest of the model need not run."""


def hidden_of(output: Any) -> Tensor:
    """The hidden states in a block's output, a tensor or a tuple that starts with them."""
    first = output[0] if isinstance(output, (tuple, list)) else output
    if not isinstance(first, Tensor):
        raise UnsupportedError(
            f"A block returned {type(first).__name__}; gossamer walks blocks that return hidden "
            "states, alone or first in a tuple."
        )
    return first


def to_device(value: Any, device: torch.device) -> Any:
    """The same nest of tuples, lists and dicts with its tensors on the device."""
    return _map(value, lambda tensor: tensor.to(device))


def _map(value: Any, fn: Callable[[Tensor], Tensor]) -> Any:
    if isinstance(value, Tensor):
        return fn(value)
    if isinstance(value, dict):
        return {key: _map(item, fn) for key, item in value.items()}
    if isinstance(value, (tuple, list)):
        return type(value)(_map(item, fn) for item in value)
    return value


class _Intern:
    """Equal tensors (masks, position tables) of different batches are kept once."""

    def __init__(self) -> None:
        self.known: dict[tuple[Any, ...], list[Tensor]] = {}

    def __call__(self, tensor: Tensor) -> Tensor:
        key = (tensor.shape, tensor.dtype)
        for other in self.known.setdefault(key, []):
            if other is tensor or torch.equal(other, tensor):
                return other
        self.known[key].append(tensor.clone())
        return self.known[key][-1]


def trace(
    model: nn.Module,
    blocks: Sequence[tuple[str, nn.Module]],
    batches: Sequence[Batch],
    outside: Callable[[], Any],
    first: Callable[[], Any],
) -> Calls:
    """Hidden states that enter the first block, and how every block is called.

    Args:
        model: the whole model, called with each batch.
        blocks: its blocks in order.
        batches: keyword arguments of the model's forward.
        outside: context manager factory under which the modules outside the blocks can run.
        first: context manager factory under which the first block can run.
    """
    found, intern = Calls(), _Intern()
    tail = _output_tail(model, blocks[0][1], batches[0], outside, first)
    for batch in batches:
        calls: list[Call] = []

        def stand_in(*args: Any, _calls: list[Call] = calls, **kwargs: Any) -> Any:
            hidden, call = _split(args, kwargs)
            if not _calls:
                found.hidden.append(hidden.detach().to("cpu", copy=True))
            kept = _map((call.args, call.kwargs), intern)
            _calls.append(Call(kept[0], kept[1], call.by_name))
            if len(_calls) == len(blocks):
                raise _Reached
            return hidden if tail is None else (hidden, *tail)

        with outside(), _replaced([block for _, block in blocks], stand_in):
            _run_until_reached(model, batch)
        if len(calls) != len(blocks):
            raise UnsupportedError(
                f"{type(model).__name__} called {len(calls)} of its {len(blocks)} blocks; gossamer "
                "walks models that run every block once and in order."
            )
        found.calls.append(calls)
    return found


def _split(args: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[Tensor, Call]:
    kwargs = {k: v for k, v in kwargs.items() if k not in ("past_key_values", "layer_past")}
    if args:
        return args[0], Call(args[1:], kwargs, False)
    hidden = kwargs.pop("hidden_states")
    return hidden, Call((), kwargs, True)


def _output_tail(
    model: nn.Module, block: nn.Module, batch: Batch,
    outside: Callable[[], Any], first: Callable[[], Any],
) -> tuple[Any, ...] | None:
    """What follows the hidden states in a block's output, None where it returns them alone."""
    seen: list[Any] = []
    real = block.forward

    def once(*args: Any, **kwargs: Any) -> Any:
        with first():
            seen.append(real(*args, **kwargs))
        raise _Reached

    with outside(), _replaced([block], once):
        _run_until_reached(model, batch)
    if not seen:
        raise UnsupportedError(f"{type(model).__name__} never called its first block.")
    hidden_of(seen[0])
    return tuple(seen[0][1:]) if isinstance(seen[0], (tuple, list)) else None


def _run_until_reached(model: nn.Module, batch: Batch) -> None:
    config = getattr(model, "config", None)
    cached = getattr(config, "use_cache", None)
    if cached:
        config.use_cache = False  # type: ignore[union-attr]
    try:
        model(**batch)
    except _Reached:
        pass
    finally:
        if cached:
            config.use_cache = cached  # type: ignore[union-attr]


@contextmanager
def _replaced(blocks: Sequence[nn.Module], forward: Callable[..., Any]) -> Iterator[None]:
    """The blocks' forward is another function inside this context."""
    for block in blocks:
        object.__setattr__(block, "forward", forward)
    try:
        yield
    finally:
        for block in blocks:
            object.__delattr__(block, "forward")
