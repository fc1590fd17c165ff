"""pack: packed layers in the place of a model's pruned ones, in layouts that suit the machine."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from gossamer.core import ConfigError, PatternError, Site, Support, UnsupportedError, sites
from gossamer.core.errors import unknown
from gossamer.edit import Handle, Swap, apply
from gossamer.layout import CHOICES, Packed, chosen_from, packed_bytes
from gossamer.layout import pack as pack_weight
from gossamer.measure import time_interleaved
from gossamer.measure.hardware.cpu import cache_bytes
from gossamer.ops import PackedConv2d, PackedLinear, linear
from gossamer.ops.conv import window_of

Progress = Callable[[int, int, str], None]

_MOST_LAYERS = 64
_ROUNDS = 5


@dataclass(frozen=True)
class Alike:
    """What layers have in common that are served by the same layout."""

    shape: tuple[int, int]
    dtype: torch.dtype
    device: torch.device
    twentieths: int  # of the weights that are kept
    layouts: tuple[str, ...]


def pack(
    model: nn.Module,
    layout: str = "auto",
    *,
    batch: int | None = None,
    dtype: torch.dtype | None = None,
    supports: Mapping[str, Support] | None = None,
    match: str | None = None,
    progress: Progress | None = None,
) -> Handle:
    """Swap every prunable layer for a packed one that keeps its non-zeros; the interface stays.

    Args:
        model: a pruned model, on one device.
        layout: a key of `layout.LAYOUTS`, "auto", or "decode" for a language model that is to be
            decoded by `gossamer.ops.decode.Decoder`, which does not read every layout.
        batch: with "auto" or "decode", the number of inputs (tokens at once) for which the
            layouts that hold a linear layer are timed on this machine, dense ones among them, and
            the quickest is taken. None takes the one of fewest bytes, as convolutions do in any
            case.
        dtype: of the stored values; None keeps each layer's.
        supports: which weights are kept, by the site's name; elsewhere the non-zeros.
        match: a shell pattern that the names of the sites must match.
        progress: called with (kinds of layers timed, kinds in all, text).

    Returns:
        The handle: ``remove()`` puts the dense layers back, ``bake()`` lets them go.

    Raises:
        ConfigError: an unknown layout or name of a site, or a batch below 1 or with a named layout.
        PatternError: the named layout cannot hold a layer's weights.
        UnsupportedError: nothing prunable is found, or stacked experts, which cannot be swapped.

    >>> model = nn.Sequential(nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 8))
    >>> handle = pack(model)
    >>> type(model[0]).__name__
    'PackedLinear'
    """
    if batch is not None and (batch < 1 or layout not in CHOICES):
        raise ConfigError(
            f'A batch of at least 1 goes with layout "auto" or "decode", not {batch} with '
            f"{layout!r}."
        )
    found = sites(model, match)
    _check_names(model, supports)
    kept = {site.name: _support(site, supports) for site in found}
    names = dict.fromkeys(kept, layout)
    if batch is not None:
        names = _quickest(found, kept, (layout, batch), dtype, progress)
    edits = [Swap(site, _layer(site, kept[site.name], names[site.name], dtype)) for site in found]
    return apply(model, edits)


def _check_names(model: nn.Module, supports: Mapping[str, Support] | None) -> None:
    names = {site.name for site in sites(model)} if supports else set()
    for name in supports or ():
        if name not in names:
            raise ConfigError(unknown("site", name, names))


def _support(site: Site, supports: Mapping[str, Support] | None) -> Support:
    if site.index is not None:
        raise UnsupportedError(
            f"{site.name} is one of several stacked experts, which cannot be packed in place; "
            "name the other layers with match."
        )
    given = None if supports is None else supports.get(site.name)
    return Support.of(site.view() != 0) if given is None else given


def _layer(site: Site, support: Support, layout: str, dtype: torch.dtype | None) -> nn.Module:
    try:
        packed = pack_weight(site.view(), support, layout, dtype)
    except PatternError as error:
        raise PatternError(f"{site.name}: {error}") from error
    bias: Tensor | None = getattr(site.module, "bias", None)
    if isinstance(site.module, nn.Conv2d):
        return PackedConv2d(packed, bias, window_of(site.module))
    return PackedLinear(packed, bias)


def _quickest(
    found: list[Site], kept: Mapping[str, Support], wanted: tuple[str, int],
    dtype: torch.dtype | None, progress: Progress | None,
) -> dict[str, str]:
    """The layout of a choice that each site is served by at a batch; sites alike share one."""
    choice, batch = wanted
    kinds: dict[str, Alike] = {}
    first: dict[Alike, Site] = {}
    for site in found:
        if site.kind == "conv2d":
            continue
        kind = _kind(site, kept[site.name], choice, dtype)
        kinds[site.name] = kind
        first.setdefault(kind, site)
    chosen: dict[Alike, str] = {}
    for turn, (kind, site) in enumerate(first.items()):
        if progress is not None:
            progress(turn, len(first), f"timing layouts for {site.name}")
        chosen[kind] = _race(site.view(), kept[site.name], kind, batch)
    return {name: chosen[kinds[name]] if name in kinds else choice for name in kept}


def _kind(site: Site, support: Support, choice: str, dtype: torch.dtype | None) -> Alike:
    weight = site.view()
    stored = dtype or weight.dtype
    sizes = {name: packed_bytes(name, support, stored) for name in chosen_from(choice)}
    most = sizes["dense"] or 0
    held = tuple(name for name, size in sizes.items() if size is not None and size <= most)
    return Alike((weight.shape[0], weight.shape[1]), stored, weight.device,
                 round(20 * support.density), held)


def _race(weight: Tensor, support: Support, kind: Alike, batch: int) -> str:
    """The layout of the least time over a stack of equal layers that is larger than the cache."""
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(batch, kind.shape[1], generator=generator).to(weight.device, weight.dtype)
    runs = {}
    for name in kind.layouts:
        packed = pack_weight(weight, support, name, kind.dtype)
        layers = min(_MOST_LAYERS, 1 + 2 * cache_bytes() // max(1, packed.nbytes))
        runs[name] = _pass(x, [_copy(packed) for _ in range(layers)])
    seconds = time_interleaved({name: run for name, (run, _) in runs.items()}, _ROUNDS)
    return min(runs, key=lambda name: min(seconds[name]) / runs[name][1])


def _pass(x: Tensor, layers: list[Packed]) -> tuple[Callable[[], object], int]:
    """One product with each layer in turn, a few of them at the least, and how many."""
    count = max(len(layers), 4)

    def run() -> None:
        for packed in itertools.islice(itertools.cycle(layers), count):
            linear(x, packed)

    return run, count


def _copy(packed: Packed) -> Packed:
    parts = {name: part.clone() for name, part in packed.parts.items()}
    return Packed(packed.layout, packed.shape, parts)
