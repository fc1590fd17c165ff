"""Swap: put another module in a layer's place, and the same old object back."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from torch import nn

from gossamer.core.errors import ConfigError, SupportError, UnsupportedError
from gossamer.core.sites import Site


@dataclass(frozen=True, eq=False)
class Swap:
    """Replace the module that owns a site, wherever the model holds it.

    Args:
        site: the weight whose module goes.
        module: what takes its place; same inputs and outputs.
    """

    site: Site
    module: nn.Module

    def ready(self) -> None:
        """Raise where this edit cannot be applied; changes nothing."""
        if self.site.index is not None:
            raise UnsupportedError(
                f"{self.site.name} is one of several stacked experts, which cannot be swapped "
                "alone; use Project."
            )
        if not isinstance(self.module, nn.Module):
            raise ConfigError(f"{self.site.name}: Swap needs a module, not {self.module!r}.")
        for side, size in zip(("out_features", "in_features"), self.site.shape):
            if getattr(self.module, side, size) != size:
                raise SupportError(
                    f"{self.site.name} needs {side}={size}; the new module has "
                    f"{getattr(self.module, side)}."
                )
        packed = getattr(self.module, "packed", None)
        if packed is not None and packed.shape != self.site.shape:
            raise SupportError(
                f"{self.site.name} has shape {self.site.shape}; the new module packs a weight of "
                f"{packed.shape}."
            )


Place = tuple[nn.Module, str]


class Swapped:
    """A `Swap` in force; a part of a handle."""

    def __init__(self, edit: Swap, places: list[Place]) -> None:
        self.site, self.module, self.places = edit.site, edit.module, places
        self.old: nn.Module | None = edit.site.module
        self.was = type(edit.site.module).__name__
        self.module.train(edit.site.module.training)
        for parent, name in places:
            setattr(parent, name, self.module)

    def check(self) -> None:
        """Raise SupportError where the new module is no longer in its place."""
        for parent, name in self.places:
            if getattr(parent, name, None) is not self.module:
                raise SupportError(
                    f"{self.site.name}: the swapped module was replaced by "
                    f"{type(getattr(parent, name, None)).__name__} behind the handle's back."
                )

    def let_go(self) -> None:
        """Forget the old module, which frees its memory."""
        self.old = None

    def undo(self) -> None:
        """Put the old module back, the same object."""
        if self.old is not None:
            for parent, name in self.places:
                setattr(parent, name, self.old)
        self.let_go()

    def entry(self) -> dict[str, Any]:
        """One JSON-able row of the manifest."""
        return {
            "edit": "swap", "site": self.site.name, "was": self.was,
            "now": type(self.module).__name__,
        }


def places_of(model: nn.Module) -> dict[int, list[Place]]:
    """Every place where a model holds a module, by the module's id."""
    found: dict[int, list[Place]] = {}
    for parent in model.modules():
        for name, child in parent._modules.items():
            if child is not None:
                found.setdefault(id(child), []).append((parent, name))
    return found
