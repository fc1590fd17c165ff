"""Handle: what was done to a model, with everything needed to check it and to undo it."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any, Literal

from torch import nn

from gossamer.core.errors import ConfigError, SupportError, UnsupportedError
from gossamer.core.sites import storage
from gossamer.edit.project import Project, Projected, follow, trains
from gossamer.edit.swap import Place, Swap, Swapped, places_of

Edit = Project | Swap


def apply(
    model: nn.Module, edits: Iterable[Edit], optimizer: Any = None, remember: bool = False
) -> Handle:
    """Change a model in place and return the handle that checks, keeps and undoes the change.

    All edits are checked before the first one is made. A weight that is tied is edited once.

    Args:
        model: any module.
        edits: what to do, one edit for a site.
        optimizer: the torch optimizer that trains projected weights: one hook masks their
            gradients before every step and one zeroes them after it, so momentum and weight
            decay cannot revive them. It keeps dense state.
        remember: keep the values that Project removes, on the CPU, so that `Handle.remove`
            restores them bit by bit.

    Raises:
        ConfigError: no edits, a site of another model, two different edits of one site, or an
            optimizer of another model.
        SupportError: a support or module whose shape does not fit its site.
        UnsupportedError: a sharded or meta weight, or a module that cannot be replaced.

    >>> import torch
    >>> from gossamer.core import Support, sites
    >>> model = nn.Sequential(nn.Linear(2, 2, bias=False))
    >>> support = Support.of(torch.eye(2, dtype=torch.bool))
    >>> handle = apply(model, [Project(sites(model)[0], support)], remember=True)
    >>> int((model[0].weight == 0).sum())
    2
    >>> handle.remove()
    """
    wanted = _once(list(edits))
    places = places_of(model)
    _all_ready(model, wanted, places)
    if optimizer is not None:
        trains(optimizer, [edit.site for edit in wanted if isinstance(edit, Project)])
    applied: list[Projected | Swapped] = []
    for edit in wanted:
        if isinstance(edit, Project):
            applied.append(Projected(edit, remember))
        else:
            applied.append(Swapped(edit, places[id(edit.site.module)]))
    handle = Handle(model, applied)
    if optimizer is not None:
        handle.follow(optimizer)
    return handle


class Handle:
    """The edits of one `apply`; ends with `bake` or `remove`."""

    def __init__(self, model: nn.Module, applied: list[Projected | Swapped]) -> None:
        self._model, self._applied = model, applied
        self._unhook: list[Callable[[], None]] = []
        self.state: Literal["applied", "baked", "removed"] = "applied"

    def check(self) -> None:
        """Raise SupportError, naming the site, where an edit no longer holds.

        That is a pruned weight that is not zero (after a merged adapter, a loaded state dict or
        a step of an optimizer that the handle does not know), or a module that was replaced.
        """
        inside = {id(module) for module in self._model.modules()}
        for edit in self._applied:
            if id(edit.module) not in inside:
                raise SupportError(
                    f"{edit.site.name} is no longer part of the model; apply the edit again."
                )
            edit.check()

    def bake(self) -> None:
        """Make the edits permanent: check them, then drop masks, hooks and old modules."""
        if self.state == "removed":
            raise ConfigError("The edits were removed; apply them again before bake().")
        if self.state == "applied":
            self.check()
            self._end("baked")

    def remove(self) -> None:
        """Undo the edits: old modules return, removed values too where they are remembered.

        Without ``remember`` a projected weight keeps its zeros and is merely let go.
        """
        if self.state == "baked":
            raise ConfigError("The edits were baked and cannot be removed; reload the model.")
        self._end("removed")

    def manifest(self) -> dict[str, Any]:
        """What was done, JSON-able: the state, and for each edit its kind, site and figures."""
        return {"state": self.state, "edits": [edit.entry() for edit in self._applied]}

    def follow(self, optimizer: Any) -> None:
        """Keep the zeros through the steps of one more optimizer (see `apply`)."""
        if self.state != "applied":
            raise ConfigError(f"The edits were {self.state}; there is nothing left to keep.")
        sites = [edit.site for edit in self._applied if isinstance(edit, Projected)]
        trains(optimizer, sites)
        self._unhook += follow(optimizer, sites)

    def _end(self, state: Literal["baked", "removed"]) -> None:
        while self._unhook:
            self._unhook.pop()()
        for edit in reversed(self._applied):
            if state == "baked":
                edit.let_go()
            else:
                edit.undo()
        self.state = state


def _once(edits: Sequence[Edit]) -> list[Edit]:
    """The edits without repetitions; contradictions are an error."""
    first: dict[object, Edit] = {}
    for edit in edits:
        if isinstance(edit, Project):
            place = storage(getattr(edit.site.module, edit.site.param))
            known = first.setdefault((place, edit.site.index), edit)
            same = isinstance(known, Project) and known.support == edit.support
        elif isinstance(edit, Swap):
            known = first.setdefault(id(edit.site.module), edit)
            same = isinstance(known, Swap) and known.module is edit.module
        else:
            raise ConfigError(f"An edit is a Project or a Swap, not {type(edit).__name__}.")
        if not same:
            raise ConfigError(
                f"{edit.site.name} and {known.site.name} are one weight, and two different edits "
                "are asked for; give one of them."
            )
    if not first:
        raise ConfigError("There is nothing to apply; pass at least one edit.")
    return list(first.values())


def _all_ready(
    model: nn.Module, edits: Sequence[Edit], places: dict[int, list[Place]]
) -> None:
    swapped = {id(edit.site.module) for edit in edits if isinstance(edit, Swap)}
    inside = {id(module) for module in model.modules()}
    staying = {
        storage(value): f"{name}.{param}" for name, module in model.named_modules()
        if swapped and id(module) not in swapped
        for param, value in module.named_parameters(recurse=False)
    }
    for edit in edits:
        name, module = edit.site.name, edit.site.module
        if id(module) not in inside:
            raise ConfigError(
                f"{name} is a site of another model or was swapped out; find it with sites(model)."
            )
        if isinstance(edit, Project) and id(module) in swapped:
            raise ConfigError(f"{name} is both projected and swapped; bake the projection first.")
        if isinstance(edit, Swap) and id(module) not in places:
            raise UnsupportedError(f"{name} is the model itself; swap it where it is used.")
        twin = staying.get(storage(getattr(module, edit.site.param)))
        if isinstance(edit, Swap) and twin is not None:
            raise UnsupportedError(
                f"{name} shares its weight with {twin}, which would go its own way; swap both, "
                "or neither."
            )
        edit.ready()
