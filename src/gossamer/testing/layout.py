"""check_layout: a layout is lossless both ways, and says how many bytes it takes."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import torch
from torch import Tensor

from gossamer.core import (
    GossamerError,
    Keep,
    Support,
    block,
    channel_groups,
    group_nm,
    nm,
    rows,
    select,
)
from gossamer.layout import Layout, Packed
from gossamer.testing.claims import claim, refuses, same_bits

_SHAPES = [(1, 1), (1, 9), (7, 8), (5, 13), (8, 24), (3, 260), (16, 64)]
_DTYPES = (torch.float32, torch.bfloat16)


def check_layout(
    layout: Layout, weight: Callable[[Support, torch.dtype], Tensor] | None = None
) -> None:
    """Raise AssertionError where a layout is not what it must be.

    Over odd shapes and empty, full, single, N:M, equally filled and ragged supports, in float32
    and bfloat16: it holds a support or refuses it, as its ``nbytes`` says; the parts have
    exactly those bytes; unpacking gives every kept bit back (-0.0, NaN and inf too) and zeros
    elsewhere; the support is found again; row starts are right; torn parts are refused.

    Args:
        layout: what is checked.
        weight: ``(support, dtype) -> [rows, cols]``, weights that a layout can hold which does
            not hold any; None takes random ones.

    >>> from gossamer.layout import LAYOUTS
    >>> check_layout(LAYOUTS["bitmask"])
    """
    held = 0
    for what, support in _supports():
        for dtype in _DTYPES:
            made = (weight or _weight)(support, dtype)
            if layout.nbytes(support, dtype.itemsize) is None:
                refuses(lambda w=made, s=support: layout.pack(w, s),  # type: ignore[misc]
                        f"{layout.name}: packing {what}, which nbytes says it cannot hold,")
                continue
            held += 1
            _round_trip(layout, made, support, f"{layout.name}, {what}, {dtype}")
    claim(held > 0, f"{layout.name} held none of the supports.")


def _supports() -> Iterator[tuple[str, Support]]:
    for high, wide in _SHAPES:
        generator = torch.Generator().manual_seed(high * wide)
        noise = torch.rand(high, wide, generator=generator)
        single = torch.zeros(high, wide, dtype=torch.bool)
        single[-1, -1] = True
        size = f"{high}x{wide}"
        yield f"nothing of {size}", Support.of(torch.zeros(high, wide, dtype=torch.bool))
        yield f"all of {size}", Support.full(high, wide)
        yield f"the last entry of {size}", Support.of(single)
        yield f"half of {size}", Support.of(noise < 0.5)
        yield f"a tenth of {size}", Support.of(noise < 0.1)
        yield f"equal rows of {size}", select(noise, rows(), Keep.fraction(0.3))
        for name, pattern in (("2:4", nm(2, 4)), ("4x4 blocks", block(4, 4)),
                              ("8x2 blocks", block(8, 2)), ("groups of 8", channel_groups(8))):
            if high % pattern.unit[0] == 0 and wide % (pattern.pool[1] or pattern.unit[1]) == 0:
                yield f"{name} of {size}", select(noise, pattern, Keep.fraction(0.3))
        if high >= 6:
            yield f"1:3:2 of {size}", select(noise, group_nm(1, 3, 2))
            yield f"2:3:1 of {size}", select(noise, group_nm(2, 3, 1))
        ablated = select(noise, rows(), Keep.fraction(0.3)).mask()
        ablated[::2] = False
        yield f"every other row of {size}", Support.of(ablated)


def _weight(support: Support, dtype: torch.dtype) -> Tensor:
    """Non-zeros everywhere, with the values that arithmetic would lose at the ends."""
    generator = torch.Generator().manual_seed(1)
    noise = torch.randn(support.shape, generator=generator)
    weight = (noise.sign() + noise).masked_fill(noise == 0, 1.0).to(dtype)
    if weight.shape[1] > 8:
        weight[0, 0], weight[0, 1], weight[-1, -1] = torch.nan, torch.inf, torch.finfo(dtype).tiny
    return weight


def _round_trip(layout: Layout, weight: Tensor, support: Support, what: str) -> None:
    before = weight.clone()
    parts = layout.pack(weight, support)
    claim(same_bits(weight, before), f"{what}: packing changed the weight.")
    claim(tuple(parts) == layout.parts, f"{what}: the parts are {tuple(parts)}.")
    claim(all(part.is_contiguous() for part in parts.values()), f"{what}: a part has gaps.")
    packed = Packed(layout.name, support.shape, parts)
    claim(packed.dtype == weight.dtype or not layout.any_weight,
          f"{what}: the values became {packed.dtype}.")
    promised = layout.nbytes(support, weight.dtype.itemsize)
    claim(packed.nbytes == promised, f"{what}: {packed.nbytes} bytes, promised {promised}.")
    layout.check(packed)
    truth = support.apply(weight)
    claim(same_bits(layout.unpack(packed), truth), f"{what}: unpacking lost something.")
    found = layout.support(packed)
    # N:M fills short groups with zeros, which then count as kept.
    claim((found & support) == support, f"{what}: the support lacks kept entries.")
    claim(same_bits(found.apply(truth), truth), f"{what}: the support does not fit.")
    if layout.any_weight:
        signed = weight.clone()
        signed[0, -1] = -0.0
        dense = layout.unpack(Packed(layout.name, support.shape, layout.pack(signed, support)))
        claim(same_bits(dense, support.apply(signed)), f"{what}: unpacking lost a sign.")
    again = layout.pack(truth.t().contiguous().t(), found)
    claim(all(same_bits(again[name], parts[name]) for name in parts),
          f"{what}: packing again, from a transposed view, gives other parts.")
    _starts(layout, packed, found, what)
    _torn(layout, packed, what)


def _starts(layout: Layout, packed: Packed, found: Support, what: str) -> None:
    starts = layout.starts(packed)
    if starts is None:
        claim(packed.values.dim() > 1 or packed.values.numel() == 0,
              f"{what}: without row starts the values must be one row for each row.")
        return
    if packed.values.dim() > 1:  # rows of blocks; what follows their end is the layout's own
        ends = (starts == len(packed.values)).nonzero()
        claim(len(ends) > 0 and bool((starts[: int(ends[0]) + 1].diff() >= 0).all()),
              f"{what}: the row starts are wrong.")
        return
    ends = found.row_counts().cumsum(0)
    claim(starts.dtype == torch.int64 and starts.tolist() == [0, *ends.tolist()],
          f"{what}: the row starts are wrong.")


def _torn(layout: Layout, packed: Packed, what: str) -> None:
    for name, part in packed.parts.items():
        if part.numel() == 0:
            continue
        torn = Packed(packed.layout, packed.shape, {**packed.parts, name: part.flatten()[:-1]})
        refuses(lambda p=torn: _use(layout, p), f"{what}: part {name} without its last entry")  # type: ignore[misc]


def _use(layout: Layout, packed: Packed) -> None:
    try:
        layout.check(packed)
    except GossamerError:
        raise
    except (RuntimeError, IndexError, ValueError) as error:
        raise AssertionError(f"check itself failed on torn parts: {error}") from error
