"""bitmask_int8, bitmask_int4, nm_int8, nm_int4: kept weights as small numbers on a grid.

A weight is ``(code - zero) * scale`` in float32, with one scale and zero for each row or for each
run of columns in a row. Parts: values uint8: the codes, shaped as those of bitmask or nm; at 4
bits two a byte, the first in the low half, the last dimension rounded up to whole bytes (for nm N
must be even); bits or index as in bitmask and nm; scales float32 ``[rows, runs]``; zeros uint8
``[rows, runs]``.

`pack` takes weights that lie on such a grid already, as those that were pruned and quantised
together do, and keeps every bit of them; `quantise` rounds others.
"""

from __future__ import annotations

import functools

import torch
from torch import Tensor

from gossamer.core import ConfigError, PatternError, Support, SupportError, UnsupportedError
from gossamer.core.errors import unknown
from gossamer.layout.bitmask import BITMASK
from gossamer.layout.nm import NM
from gossamer.layout.packed import Layout, Packed, expect
from gossamer.layout.steps import find_steps

_BASES = {
    "bitmask_int8": (BITMASK, 8), "bitmask_int4": (BITMASK, 4),
    "nm_int8": (NM, 8), "nm_int4": (NM, 4),
}


def quantise(
    weight: Tensor, support: Support, layout: str = "bitmask_int8", run: int | None = None
) -> Packed:
    """The kept weights rounded to the nearest of 2^bits even steps, zero among them.

    Args:
        weight: ``[rows, cols]``, finite.
        support: which entries are kept.
        layout: bitmask_int8, bitmask_int4, nm_int8 or nm_int4.
        run: columns that share a scale, a divisor of cols; None for whole rows.

    Raises:
        ConfigError: another layout, or a run that does not divide the columns.
        UnsupportedError: a weight is not finite.
        PatternError: the layout cannot hold the support.

    >>> packed = quantise(torch.tensor([[0.0, -1.0, 2.0, 0.5]]), Support.full(1, 4))
    >>> packed.values.tolist()
    [85, 0, 255, 127]
    """
    if layout not in _BASES:
        raise ConfigError(unknown("quantised layout", layout, _BASES))
    rows, cols = weight.shape
    width = cols if run is None else run
    if width < 1 or cols % width:
        raise ConfigError(f"A run of {run} columns does not divide the {cols} of the weight.")
    kept = support.apply(weight.detach().float())
    if not bool(kept.isfinite().all()):
        raise UnsupportedError("Weights that are not finite cannot be quantised; clean them first.")
    bits = _BASES[layout][1]
    tiled = kept.view(rows, cols // width, width)
    low, high = tiled.amin(2).clamp_max(0), tiled.amax(2).clamp_min(0)
    scales = ((high - low) / (2**bits - 1)).masked_fill(low == high, 1.0)
    zeros = (-low / scales).round()
    codes = ((tiled / scales[..., None]).round() + zeros[..., None]).clamp(0, 2**bits - 1)
    return _packed(layout, codes.view(rows, cols), support, scales, zeros)


def _packed(
    layout: str, codes: Tensor, support: Support, scales: Tensor, zeros: Tensor
) -> Packed:
    base, bits = _BASES[layout]
    parts = base.pack(codes.to(torch.uint8), support)
    if bits == 4:
        parts["values"] = _halves(parts["values"], layout)
    parts |= {"scales": scales.contiguous(), "zeros": zeros.to(torch.uint8).contiguous()}
    return Packed(layout, support.shape, parts)


def _halves(codes: Tensor, layout: str) -> Tensor:
    """Two codes a byte along the last dimension."""
    if codes.dim() > 1 and codes.shape[-1] % 2:
        raise PatternError(
            f"Layout {layout} puts two of a group's values in a byte and cannot hold "
            f"{codes.shape[-1]} of them; use nm_int8."
        )
    even = torch.nn.functional.pad(codes, (0, codes.shape[-1] % 2))
    return even[..., ::2] | even[..., 1::2] << 4


def _base(packed: Packed) -> Packed:
    """The codes as a matrix of the layout without scales."""
    base, bits = _BASES[packed.layout]
    values = packed.values
    if bits == 4:
        values = torch.stack([values & 15, values >> 4], -1).flatten(-2)
    index = packed.parts[base.parts[1]]
    whole = Packed(base.name, packed.shape, {"values": values, base.parts[1]: index})
    starts = whole.starts
    if bits == 4 and starts is not None:
        whole = Packed(base.name, packed.shape, {
            "values": values[: int(starts[-1])].contiguous(), base.parts[1]: index})
    return whole


def _pack(layout: str, weight: Tensor, support: Support) -> dict[str, Tensor]:
    found = find_steps(support.apply(weight), _BASES[layout][1])
    if weight.dtype != torch.float32 or found is None:
        raise PatternError(
            f"Layout {layout} holds float32 weights that lie on {2**_BASES[layout][1]} even steps "
            "in each row, and these do not; round them with gossamer.layout.quantise first."
        )
    scales, zeros, codes = found
    return _packed(layout, codes, support, scales[:, None], zeros[:, None]).parts


def _unpack(packed: Packed) -> Tensor:
    base = _base(packed)
    rows, cols = packed.shape
    scales, zeros = packed.parts["scales"], packed.parts["zeros"].float()
    codes = _BASES[packed.layout][0].unpack(base).float().view(rows, scales.shape[1], -1)
    dense = (codes - zeros[..., None]) * scales[..., None]
    return _support(packed).apply(dense.view(rows, cols))


def _support(packed: Packed) -> Support:
    return _BASES[packed.layout][0].support(_base(packed))


def _nbytes(layout: str, support: Support, itemsize: int) -> int | None:
    base, bits = _BASES[layout]
    size = base.nbytes(support, 1)
    if size is None or itemsize != 4:
        return None
    if bits == 4:
        probe = base.pack(torch.zeros(support.shape, dtype=torch.uint8), support)["values"]
        if probe.dim() > 1 and probe.shape[-1] % 2:
            return None
        size -= probe.numel() // 2
    return size + 5 * support.shape[0]


def _starts(packed: Packed) -> Tensor | None:
    return _BASES[packed.layout][0].starts(packed)


def _check(packed: Packed) -> None:
    rows, cols = packed.shape
    scales = packed.parts["scales"]
    runs = scales.shape[-1] if scales.dim() == 2 else 0
    expect(packed, "values", torch.uint8, tuple(packed.values.shape))
    expect(packed, "scales", torch.float32, (rows, runs))
    expect(packed, "zeros", torch.uint8, (rows, runs))
    if runs == 0 or cols % runs:
        raise SupportError(f"{runs} scales a row do not divide the {cols} columns of the matrix.")
    base, bits = _BASES[packed.layout]
    codes = packed.values
    if base is BITMASK and bits == 4 and codes.dim() == 1 and packed.device.type != "meta":
        _check_half(packed)
        return
    shape = (*codes.shape[:-1], codes.shape[-1] * (8 // bits)) if codes.dim() else ()
    like = torch.empty(shape, dtype=torch.float16, device=codes.device)
    index = packed.parts[base.parts[1]]
    base.check(Packed(base.name, packed.shape, {"values": like, base.parts[1]: index}))


def _check_half(packed: Packed) -> None:
    """bitmask_int4: as many bytes as the bits that are set want, the last half byte 0."""
    bits = packed.parts["bits"]
    Support(packed.shape, bits)
    starts = packed.starts
    total = int(starts[-1]) if starts is not None else 0
    if packed.values.numel() != (total + 1) // 2 or (
        total % 2 and int(packed.values[-1]) >> 4
    ):
        raise SupportError(
            f"The bitmask has {total} bits set for {packed.values.numel()} bytes of values; "
            "the parts do not belong together."
        )


def _layout(name: str) -> Layout:
    base, _ = _BASES[name]
    return Layout(
        name, (*base.parts, "scales", "zeros"), functools.partial(_pack, name), _unpack, _support,
        functools.partial(_nbytes, name), _check, _starts, any_weight=False,
    )


QUANTISED = tuple(_layout(name) for name in _BASES)
