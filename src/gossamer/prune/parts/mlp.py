"""The feed-forward part of a block, found by shapes and proved by numbers."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

from torch import Tensor, nn

from gossamer.core.errors import UnsupportedError
from gossamer.core.sites import Site

Activation = Callable[[Tensor], Tensor]
CANDIDATES: dict[str, Activation] = {
    "relu": nn.functional.relu,
    "silu": nn.functional.silu,
    "gelu": nn.functional.gelu,
    "gelu_tanh": lambda x: nn.functional.gelu(x, approximate="tanh"),
}


@dataclass(frozen=True)
class Mlp:
    """``down(act(up(x)))`` or ``down(act(gate(x)) * up(x))``.

    Args:
        kind: plain or gated.
        up: the site that gives the pre-activation (plain) or the factor (gated).
        down: the last site.
        gate: the site under the activation, for gated.
        activation: name in `CANDIDATES`.
    """

    kind: Literal["plain", "gated"]
    up: Site
    down: Site
    gate: Site | None
    activation: str

    @property
    def sites(self) -> list[Site]:
        """Its two or three sites, first to last."""
        return [site for site in (self.gate, self.up, self.down) if site is not None]


def mlp_sites(found: Sequence[Site]) -> list[list[Site]]:
    """Groups of a block's sites that can form a feed-forward part, by shape alone.

    Two or three linear sites of which the last maps width f back to d and the others d to f > d.
    Stacked experts form one group each.
    """
    linear = [site for site in found if site.kind != "expert"]
    groups = []
    for last in linear:
        d, f = last.shape
        if f <= d:
            continue
        firsts = [s for s in linear if s.shape == (f, d)]
        if len(firsts) in (1, 2):
            groups.append([*firsts, last])
    experts: dict[tuple[int, int | None], list[Site]] = {}
    for site in found:
        if site.kind == "expert":
            experts.setdefault((id(site.module), site.index), []).append(site)
    return groups + list(experts.values())


def find_mlp(found: Sequence[Site], x: Tensor, inner: Tensor) -> Mlp:
    """The block's feed-forward part, checked against what its last matrix really received.

    Args:
        found: the block's sites.
        x: ``[tokens, d]`` inputs of the first matrices.
        inner: ``[tokens, f]`` inputs of the last matrix for the same tokens.

    Raises:
        UnsupportedError: no group of sites has the shapes, or no rule explains ``inner``.
    """
    groups = [g for g in mlp_sites(found) if g[0].kind != "expert"]
    if len(groups) != 1:
        raise UnsupportedError(
            f"{found[0].name}: its block has {len(groups)} feed-forward parts of two or three "
            "linear layers; SparseLLM needs exactly one."
        )
    *firsts, down = groups[0]
    orders = [(None, firsts[0])] if len(firsts) == 1 else [
        (firsts[0], firsts[1]), (firsts[1], firsts[0])]
    trials = []
    for gate, up in orders:
        for name, act in CANDIDATES.items():
            error = float((forward_inner(x, gate, up, act) - inner.float()).norm())
            mlp = Mlp("plain" if gate is None else "gated", up, down, gate, name)
            trials.append((error, mlp))
    error, best = min(trials, key=lambda trial: trial[0])
    if error <= 1e-2 * float(inner.float().norm()):
        return best
    raise UnsupportedError(
        f"{down.name}: no rule act(fc1(x)) or act(gate(x)) * up(x) with {', '.join(CANDIDATES)} "
        "explains what this layer receives."
    )


def forward_inner(x: Tensor, gate: Site | None, up: Site, act: Activation) -> Tensor:
    """What the last matrix receives: ``[tokens, f]`` float32."""
    pre = linear(x, up)
    return act(pre) if gate is None else act(linear(x, gate)) * pre


def linear(x: Tensor, site: Site) -> Tensor:
    """``x W^T + b`` in float32."""
    bias = bias_of(site)
    return nn.functional.linear(x.float(), site.view().float(), bias)


def bias_of(site: Site) -> Tensor | None:
    """The site's bias in float32, None without one."""
    bias = getattr(site.module, "bias", None)
    return bias.detach().float() if isinstance(bias, Tensor) else None
