"""Where the blocks of a model come from: memory, or a checkpoint read block by block."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Protocol, runtime_checkable

import torch
from torch import Tensor, nn


@runtime_checkable
class Source(Protocol):
    """A model whose parameters may be absent (meta device) until their block is loaded."""

    model: nn.Module

    def load(self, module: nn.Module, name: str) -> None:
        """Give every parameter under ``module`` its values; ``name`` is its dotted path."""

    def unload(self, module: nn.Module) -> None:
        """Give the memory of the parameters under ``module`` back."""


class InMemory:
    """A model that is in memory as a whole: loading does nothing, values stay after unloading."""

    def __init__(self, model: nn.Module) -> None:
        self.model = model

    def load(self, module: nn.Module, name: str) -> None:
        """Nothing to do."""

    def unload(self, module: nn.Module) -> None:
        """Nothing to do."""


def as_source(model: Any) -> Source:
    """A Source for a plain module, or the given source itself."""
    return InMemory(model) if isinstance(model, nn.Module) else model


@contextmanager
def at_hand(
    source: Source, module: nn.Module, name: str, device: torch.device, dtype: torch.dtype | None
) -> Iterator[None]:
    """The module is loaded, on the device and in the compute dtype inside this context."""
    source.load(module, name)
    home = _first(module)
    place = (home.device, home.dtype) if home is not None else None
    module.to(device=device, dtype=dtype)
    try:
        yield
    finally:
        if place is not None and isinstance(source, InMemory):
            module.to(device=place[0], dtype=place[1])
        source.unload(module)


@contextmanager
def outside_at_hand(
    source: Source, blocks: list[tuple[str, nn.Module]], device: torch.device,
    dtype: torch.dtype | None,
) -> Iterator[None]:
    """Modules outside the blocks come when they are called and go when they are done.

    An embedding keeps its stored dtype and only what it returns is cast: widening the table would
    take more memory than any block.
    """
    inside = {id(inner) for _, block in blocks for inner in block.modules()}
    handles: list[Any] = []
    opened: dict[int, Any] = {}

    def enter(name: str, module: nn.Module) -> Any:
        def hook(*_: Any) -> None:
            cast = None if isinstance(module, nn.Embedding) else dtype
            opened[id(module)] = at_hand(source, module, name, device, cast)
            opened[id(module)].__enter__()
        return hook

    def leave(module: nn.Module) -> Any:
        def hook(_: nn.Module, args: Any, output: Any) -> Any:
            opened.pop(id(module)).__exit__(None, None, None)
            return output.to(dtype) if dtype and isinstance(module, nn.Embedding) else output
        return hook

    for name, module in source.model.named_modules():
        leaf = any(True for _ in module.parameters(recurse=False))
        if leaf and id(module) not in inside:
            handles.append(module.register_forward_pre_hook(enter(name, module)))
            handles.append(module.register_forward_hook(leave(module), always_call=True))
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()
        for context in list(opened.values()):
            context.__exit__(None, None, None)


def _first(module: nn.Module) -> Tensor | None:
    return next(iter(module.parameters()), None)
