"""Project: keep a weight zero outside its support, while it stays an ordinary parameter."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from gossamer.core.errors import ConfigError, SupportError, UnsupportedError
from gossamer.core.sites import Site
from gossamer.core.support import Support


@dataclass(frozen=True, eq=False)
class Project:
    """Zero a site's weight outside a support, and keep it zero while it is trained.

    The parameter keeps its name, dtype and place. The pruned entries ride along as the
    non-persistent buffer ``<parameter>_pruned`` of the owning module, in the parameter's own
    layout (``[in, out]`` for Conv1D, all experts together for stacked ones).

    Args:
        site: the weight.
        support: what is kept of ``[out, in]``.
    """

    site: Site
    support: Support

    def ready(self) -> None:
        """Raise where this edit cannot be applied; changes nothing."""
        site, support = self.site, self.support
        weight = getattr(site.module, site.param)
        if hasattr(weight, "placements"):
            raise UnsupportedError(
                f"{site.name} is a DTensor (FSDP or tensor parallel), which is not supported; "
                "apply the edit before the model is sharded, or use DistributedDataParallel."
            )
        if weight.is_meta:
            raise UnsupportedError(f"{site.name} lies on the meta device; load its values first.")
        if support.shape != site.shape:
            raise SupportError(
                f"{site.name} has shape {site.shape}, its support {support.shape}; use the "
                "support that was chosen for this site."
            )
        pruned = pruned_of(site)
        if pruned is not None and (site.index is None or bool(pruned.any())):
            raise ConfigError(
                f"{site.name} already carries a mask: remove() or bake() the handle that set it, "
                "or call edit.release(model) on a copy of an edited model."
            )


class Projected:
    """A `Project` in force; a part of a handle."""

    def __init__(self, edit: Project, remember: bool) -> None:
        self.site, self.support = edit.site, edit.support
        self.before: Tensor | None = None
        weight = self.site.view()
        pruned = ~self.support.mask().to(weight.device)
        name = buffer_name(self.site.param)
        if pruned_of(self.site) is None:
            whole = getattr(self.site.module, self.site.param).detach()
            blank = torch.zeros_like(whole, dtype=torch.bool)
            self.site.module.register_buffer(name, blank, persistent=False)
        carried = pruned_of(self.site)
        if carried is not None:
            carried.copy_(pruned)
        if remember:
            self.before = weight[pruned].cpu()
        weight.masked_fill_(pruned, 0)

    @property
    def module(self) -> nn.Module:
        """The module that must stay in the model."""
        return self.site.module

    def check(self) -> None:
        """Raise SupportError where a pruned weight is no longer zero."""
        weight, pruned = self.site.view(), pruned_of(self.site)
        if pruned is None:
            raise SupportError(f"{self.site.name} has lost its mask; apply the edit again.")
        revived = (weight != 0) & pruned
        if bool(revived.any()):
            row, col = revived.nonzero()[0].tolist()
            raise SupportError(
                f"{self.site.name}: {int(revived.sum())} pruned weights are no longer zero, the "
                f"first at row {row}, column {col}; pass the optimizer to apply(), and project "
                "the weight again after merging adapters."
            )

    def let_go(self) -> None:
        """Drop the mask; the zeros stay."""
        pruned, name = pruned_of(self.site), buffer_name(self.site.param)
        if pruned is None:
            return
        pruned.fill_(False)
        if not bool(getattr(self.site.module, name).any()):  # no other expert needs it
            delattr(self.site.module, name)
        self.before = None

    def undo(self) -> None:
        """Put back the remembered values, where there are any, and drop the mask."""
        if self.before is not None:
            weight = self.site.view()
            pruned = ~self.support.mask().to(weight.device)
            weight[pruned] = self.before.to(weight.device, weight.dtype)
        self.let_go()

    def entry(self) -> dict[str, Any]:
        """One JSON-able row of the manifest."""
        return {
            "edit": "project", "site": self.site.name, "shape": list(self.support.shape),
            "pattern": str(self.support.pattern), "kept": self.support.nnz,
        }


def buffer_name(param: str) -> str:
    """Name of the buffer that marks the pruned entries of a parameter."""
    return f"{param}_pruned"


def pruned_of(site: Site) -> Tensor | None:
    """The mask that a site carries as ``[out, in]``, true where pruned: a view, or None."""
    mask: Tensor | None = getattr(site.module, buffer_name(site.param), None)
    if mask is None or site.kind == "linear":
        return mask
    if site.kind == "conv2d":
        return mask.view(mask.shape[0], -1)
    return mask.t() if site.kind == "conv1d" else mask[site.index]


def release(model: nn.Module) -> None:
    """Drop every mask that a model carries without a handle, as a copy of an edited model does.

    The zeros stay; the copy's handle, if one is wanted, comes from a new `apply`.
    """
    for module in model.modules():
        for name, parameter in list(module.named_parameters(recurse=False)):
            mask = getattr(module, buffer_name(name), None)
            if isinstance(mask, Tensor) and mask.shape == parameter.shape:
                delattr(module, buffer_name(name))


def trains(optimizer: Any, sites: Sequence[Site]) -> None:
    """Raise where an optimizer cannot keep these sites projected; changes nothing."""
    if not hasattr(optimizer, "register_step_pre_hook"):
        raise UnsupportedError(
            f"{type(optimizer).__name__} has no step hooks; pass the torch.optim optimizer itself."
        )
    trained = {id(p) for group in optimizer.param_groups for p in group["params"]}
    if not any(id(getattr(site.module, site.param)) in trained for site in sites):
        raise ConfigError(
            "The optimizer trains none of the projected weights; build it from the parameters of "
            "the same model."
        )


def follow(optimizer: Any, sites: Sequence[Site]) -> list[Callable[[], None]]:
    """Mask the gradients before every step and the weights after it; returns what undoes that."""
    owners = {(id(site.module), site.param): site for site in sites}

    def marked() -> Iterator[tuple[Tensor, Tensor]]:
        for site in owners.values():
            pruned = getattr(site.module, buffer_name(site.param), None)
            if pruned is not None:
                yield getattr(site.module, site.param), pruned

    @torch.no_grad()
    def before(*_: Any) -> None:
        for weight, pruned in marked():
            if weight.grad is not None:
                weight.grad.masked_fill_(pruned, 0)

    @torch.no_grad()
    def after(*_: Any) -> None:
        for weight, pruned in marked():
            weight.masked_fill_(pruned, 0)

    hooks = [optimizer.register_step_pre_hook(before), optimizer.register_step_post_hook(after)]
    return [hook.remove for hook in hooks]
