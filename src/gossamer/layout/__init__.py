"""How the kept weights of a matrix lie in memory and on disk; lossless both ways."""

from __future__ import annotations

import torch
from torch import Tensor

from gossamer.core import ConfigError, PatternError, Support, SupportError, UnsupportedError
from gossamer.core.errors import unknown
from gossamer.core.registry import Registration, Registry
from gossamer.layout.ablated import ABLATED
from gossamer.layout.bitmask import BITMASK
from gossamer.layout.bsr import BSR
from gossamer.layout.channel_groups import CHANNEL_GROUPS
from gossamer.layout.condensed import CONDENSED
from gossamer.layout.csr import CSR
from gossamer.layout.dense import DENSE
from gossamer.layout.group_nm import GROUP_NM
from gossamer.layout.nm import NM
from gossamer.layout.packed import FLOATS, Layout, Packed, check_frame
from gossamer.layout.quantised import QUANTISED, quantise
from gossamer.layout.tiled import TILED

__all__ = [
    "CHOICES", "LAYOUTS", "Layout", "Packed", "check_packed", "chosen_from", "layout_of",
    "pack", "packed_bytes", "quantise", "register", "support_of", "unpack",
]

# The order decides ties of "auto": the one that is quicker to read stands first.
LAYOUTS: Registry[Layout] = Registry(
    "layout", (DENSE, NM, CONDENSED, BITMASK, CSR, BSR, CHANNEL_GROUPS, ABLATED, GROUP_NM, TILED,
               *QUANTISED)
)

# What "auto" and "decode" choose from: any layout, or those that the compiled Decoder of
# `gossamer.ops.decode` reads.
CHOICES = ("auto", "decode")
_DECODED = ("dense", "nm", "condensed", "bitmask", "csr")


def register(layout: Layout) -> Registration:
    """Add a layout, for good or inside ``with``; `pack`, `linear` and `store` then know it.

    "auto" considers it after those of the house. Products run through its ``unpack`` until a
    kernel is added with `gossamer.ops.linear.register`.

    Raises:
        ConfigError: the name is taken, or one of `CHOICES`.

    >>> import dataclasses
    >>> with register(dataclasses.replace(LAYOUTS["csr"], name="mine")):
    ...     "mine" in LAYOUTS
    True
    >>> "mine" in LAYOUTS
    False
    """
    if layout.name in CHOICES:
        raise ConfigError(
            f"No layout can be called {layout.name!r}: pack takes that as a choice of its own."
        )
    return LAYOUTS.register(layout)


def layout_of(name: str) -> Layout:
    """The layout of this name.

    Raises:
        ConfigError: there is none.
    """
    if not isinstance(name, str) or name not in LAYOUTS:
        raise ConfigError(unknown("layout", str(name), LAYOUTS))
    return LAYOUTS[name]


def pack(
    weight: Tensor,
    support: Support | None = None,
    layout: str = "auto",
    dtype: torch.dtype | None = None,
) -> Packed:
    """The kept entries of a matrix in a layout; nothing outside the support is stored.

    Args:
        weight: ``[rows, cols]``, any float dtype; NaN and inf are kept as they are.
        support: which entries are kept; None keeps the non-zeros.
        layout: a key of `LAYOUTS`, or "auto" for the one with the fewest bytes (which is not
            always the quickest one), or "decode" for the one with the fewest bytes of those that
            `gossamer.ops.decode.Decoder` reads.
        dtype: dtype of the stored values; None keeps the weight's.

    Raises:
        PatternError: the layout cannot hold the support.
        SupportError: the support has another shape.
        UnsupportedError: the weight is not a float matrix.

    >>> packed = pack(torch.eye(64), layout="auto")
    >>> packed.layout, packed.nbytes
    ('condensed', 384)
    """
    stored = dtype or weight.dtype
    if weight.dim() != 2 or stored not in FLOATS or not weight.is_floating_point():
        raise UnsupportedError(
            f"Only a float matrix of 16 bits and more can be packed, not {weight.dtype} of "
            f"{tuple(weight.shape)} as {stored}."
        )
    weight = weight.detach()
    chosen = Support.of(weight != 0) if support is None else support
    if chosen.shape != tuple(weight.shape):
        raise SupportError(
            f"A support of shape {chosen.shape} does not fit a weight of {tuple(weight.shape)}."
        )
    weight = weight.to(stored)
    name = _smallest(chosen, weight.dtype, layout) if layout in CHOICES else layout
    parts = layout_of(name).pack(weight, chosen)
    return Packed(name, (weight.shape[0], weight.shape[1]), parts)


def unpack(packed: Packed) -> Tensor:
    """The dense matrix ``[rows, cols]``, with zeros outside the support."""
    return layout_of(packed.layout).unpack(packed)


def support_of(packed: Packed) -> Support:
    """The kept entries.

    Layout dense knows only its non-zeros; layout nm counts the zeros that fill short groups.
    """
    return layout_of(packed.layout).support(packed)


def packed_bytes(layout: str, support: Support, dtype: torch.dtype) -> int | None:
    """Bytes of the parts without packing, None where the layout cannot hold the support.

    >>> packed_bytes("bitmask", Support.full(4, 16), torch.bfloat16)
    136
    """
    if layout in CHOICES:
        layout = _smallest(support, dtype, layout)
    return layout_of(layout).nbytes(support, dtype.itemsize)


def check_packed(packed: Packed) -> None:
    """Raise SupportError where the parts contradict the shape or one another.

    Kernels trust what passed here: run it on parts that come from outside.
    """
    layout = layout_of(packed.layout)
    check_frame(packed, layout.parts)
    layout.check(packed)


def chosen_from(choice: str) -> dict[str, Layout]:
    """The layouts that one of `CHOICES` chooses from, by name."""
    return {name: layout for name, layout in LAYOUTS.items()
            if layout.any_weight and (choice == "auto" or name in _DECODED)}


def _smallest(support: Support, dtype: torch.dtype, choice: str) -> str:
    sizes = {name: layout.nbytes(support, dtype.itemsize)
             for name, layout in chosen_from(choice).items()}
    held = {name: size for name, size in sizes.items() if size is not None}
    if not held:
        raise PatternError(f"No layout holds a support of shape {support.shape}.")
    return min(held, key=lambda name: held[name])
