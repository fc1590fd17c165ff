"""Packed matrices built by hand with one to three things wrong, and what a product makes of them.

A product must end in a GossamerError or in the right numbers. Right are those of the dense matrix
that the parts unpack to, provided that packing it again gives the same parts: then nothing in
them contradicts anything else.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from gossamer.core import GossamerError
from gossamer.layout import LAYOUTS, Packed, pack, quantise, support_of, unpack
from gossamer.ops import conv2d, explain, linear
from tests.held import held

_NUMBERS = (0, 1, -1, 2, 7, 127, 128, 255, 256, 32767, -32768, 65535, 1 << 31, 1 << 40, 1 << 62)
_DTYPES = (torch.float64, torch.float32, torch.float16, torch.bfloat16, torch.float8_e4m3fn,
           torch.int64, torch.int32, torch.int16, torch.uint16, torch.int8, torch.uint8,
           torch.bool, torch.complex64)


@dataclass(frozen=True)
class Case:
    """What is handed to a product.

    Args:
        layout, shape, parts: of the packed matrix.
        x: the input ``[batch, cols]``.
        bias: or None.
        told: what was changed.
    """

    layout: Any
    shape: Any
    parts: dict[str, Any]
    x: Tensor
    bias: Tensor | None
    told: tuple[str, ...] = ()


def whole(rng: random.Random) -> Case:
    """A case with nothing wrong."""
    torch.manual_seed(rng.randrange(1 << 30))
    layout = rng.choice(list(LAYOUTS))
    # Sides that every layout can hold, some of them wider than 65,536 columns.
    rows = rng.choice((2, 4, 6, 12, 18, 40))
    cols = rng.choice((4, 8, 12, 20, 36, 72, 260, 520, 65_544 if rng.random() < 0.2 else 16))
    score = torch.rand(rows, cols)
    support = held(layout, score, rng.choice((0.5, 0.5, 0.1, 1.0)))
    weight = torch.randn(rows, cols)
    if LAYOUTS[layout].any_weight:
        packed = pack(weight, support, layout, rng.choice((torch.float32, torch.bfloat16)))
    else:
        packed = quantise(weight, support, layout, rng.choice((None, cols // 2)))
    x = torch.randn(rng.choice((1, 2, 9, 33, 70)), cols)
    x = x.to(rng.choice((torch.float32, torch.float32, torch.bfloat16)))
    bias = torch.randn(rows) if rng.random() < 0.5 else None
    return Case(layout, packed.shape, dict(packed.parts), x, bias)


def bits_flipped(rng: random.Random, part: Tensor) -> Tensor:
    """The same tensor with one to four bits changed."""
    raw = part.clone().contiguous().view(-1).view(torch.uint8)
    for _ in range(rng.randint(1, 4) if raw.numel() else 0):
        raw[rng.randrange(raw.numel())] ^= 1 << rng.randrange(8)
    return raw.view(part.dtype).view(part.shape)


def numbers_set(rng: random.Random, part: Tensor) -> Tensor:
    """Some entries set to a number that breaks things elsewhere."""
    flat = part.clone().reshape(-1)
    number = torch.tensor(rng.choice(_NUMBERS)).to(part.dtype)
    for _ in range(rng.choice((1, 1, 3)) if flat.numel() else 0):
        flat[rng.randrange(flat.numel())] = number
    return torch.full_like(part.float(), 1).to(part.dtype) * number if (
        rng.random() < 0.1 and part.dtype not in (torch.uint16,)) else flat.view(part.shape)


def repeated(rng: random.Random, part: Tensor) -> Tensor:
    """One entry taken from its neighbour."""
    flat = part.clone().reshape(-1)
    if flat.numel() > 1:
        at = rng.randrange(1, flat.numel())
        flat[at] = flat[at - 1].clone()
    return flat.view(part.shape)


def exchanged(rng: random.Random, part: Tensor) -> Tensor:
    """Two entries in one another's place."""
    flat = part.clone().reshape(-1)
    if flat.numel() > 1:
        a, b = rng.randrange(flat.numel()), rng.randrange(flat.numel())
        flat[a], flat[b] = flat[b].clone(), flat[a].clone()
    return flat.view(part.shape)


def balanced(rng: random.Random, part: Tensor) -> Tensor:
    """One entry more, another less by as much: totals stay."""
    flat = part.clone().reshape(-1)
    if flat.numel() > 1 and not part.dtype.is_floating_point:
        a, b = rng.sample(range(flat.numel()), 2)
        step = rng.choice((1, 1, 5, 1 << 20))
        wide = flat.to(torch.int64)
        wide[a] += step
        wide[b] -= step
        flat = wide.to(part.dtype)
    return flat.view(part.shape)


def reshaped(rng: random.Random, part: Tensor) -> Tensor:
    """Other sides."""
    ways: list[Callable[[Tensor], Tensor]] = [
        lambda t: t[:-1], lambda t: t[..., :-1], lambda t: t[:0], lambda t: t.flatten(),
        lambda t: t.unsqueeze(0), lambda t: t.unsqueeze(-1), lambda t: t.transpose(0, -1),
        lambda t: torch.cat([t, t[:1]]), lambda t: t.flatten()[:1].squeeze(),
        lambda t: t.repeat(2, *[1] * (t.dim() - 1)), lambda t: t.reshape(-1, 1, 1),
        lambda t: t.reshape(1, 1, 1, 1, -1),
    ]
    return rng.choice(ways)(part) if part.dim() else part


def retyped(rng: random.Random, part: Tensor) -> Tensor:
    """Another dtype, converted or read anew from the same bytes."""
    dtype = rng.choice(_DTYPES)
    if rng.random() < 0.5 and dtype.itemsize == part.dtype.itemsize and dtype != torch.bool:
        return part.contiguous().view(dtype)
    return part.to(dtype)


def rearranged(rng: random.Random, part: Tensor) -> Tensor:
    """The same numbers in memory that is strided, shifted by an entry, or shared."""
    flat = part.contiguous().reshape(-1)
    kind = rng.choice(("strided", "shifted", "expanded", "meta", "sparse", "negative"))
    if kind == "strided":
        return torch.stack([flat, flat], 1)[:, 0].view(part.shape) if part.dim() == 1 else (
            part.transpose(0, -1).contiguous().transpose(0, -1))
    if kind == "shifted":
        return torch.cat([flat[:1], flat])[1:].view(part.shape) if flat.numel() else part
    if kind == "expanded":
        return part[:1].expand(part.shape) if part.dim() and part.shape[0] else part
    if kind == "sparse":
        return part.to_sparse() if part.is_floating_point() and part.itemsize > 1 else part
    if kind == "negative" and part.is_floating_point() and part.itemsize > 1:
        return torch._neg_view(-part)
    return part.to("meta")


_PART_CHANGES = (bits_flipped, bits_flipped, numbers_set, numbers_set, repeated, exchanged,
                 balanced, reshaped, retyped, rearranged)


def _change_part(rng: random.Random, case: Case) -> Case:
    tensors = [name for name, part in case.parts.items() if isinstance(part, Tensor)
               and part.device.type == "cpu" and part.layout == torch.strided]
    if not tensors:
        return case
    name, change = rng.choice(tensors), rng.choice(_PART_CHANGES)
    try:
        made = change(rng, case.parts[name])
    except (RuntimeError, NotImplementedError):  # torch has no such tensor
        return case
    told = (*case.told, f"{name} {change.__name__}")
    return replace(case, parts={**case.parts, name: made}, told=told)


def _change_parts(rng: random.Random, case: Case) -> Case:
    parts, name = dict(case.parts), rng.choice(list(case.parts) or ["values"])
    kind = rng.choice(("gone", "none", "list", "more", "swapped"))
    if kind == "gone":
        parts.pop(name, None)
    elif kind == "none":
        parts[name] = None
    elif kind == "list":
        parts[name] = [1, 2]
    elif kind == "more":
        parts["extra"] = torch.ones(3)
    elif len(parts) > 1:
        a, b = rng.sample(list(parts), 2)
        parts[a], parts[b] = parts[b], parts[a]
    return replace(case, parts=parts, told=(*case.told, f"{name} {kind}"))


def _change_shape(rng: random.Random, case: Case) -> Case:
    shape: list[Any] = list(case.shape)
    place = rng.randrange(len(shape)) if shape else 0
    kind = rng.choice(("near", "near", "number", "swapped", "odd"))
    if kind == "near" and shape and isinstance(shape[place], int):
        shape[place] += rng.choice((-1, 1, 4, -4, 8, shape[place]))
    elif kind == "number" and shape:
        shape[place] = rng.choice(_NUMBERS)
    elif kind == "swapped":
        shape.reverse()
    elif kind == "odd":
        shape = rng.choice(([1], [2, 2, 2], [2.0, 4.0], ["2", "4"], [], [None, 3], [True, 4]))
    cols = shape[-1] if shape and isinstance(shape[-1], int) and 0 <= shape[-1] < 1 << 20 else None
    keeps = cols is None or case.x.dim() != 2 or rng.random() < 0.1
    x = case.x if keeps else torch.randn(case.x.shape[0], int(cols))
    rows = shape[0] if shape and isinstance(shape[0], int) and 0 <= shape[0] < 1 << 20 else None
    bias = case.bias if case.bias is None or rows is None else torch.randn(int(rows))
    return replace(case, shape=tuple(shape), x=x, bias=bias, told=(*case.told, f"shape {shape}"))


def _change_layout(rng: random.Random, case: Case) -> Case:
    name = rng.choice([*LAYOUTS, "nothing", "auto", ""])
    return replace(case, layout=name, told=(*case.told, f"layout {name}"))


def _change_input(rng: random.Random, case: Case) -> Case:
    change = rng.choice((rearranged, retyped, reshaped))
    which = "bias" if case.bias is not None and rng.random() < 0.6 else "x"
    try:
        made = change(rng, getattr(case, which))
    except (RuntimeError, NotImplementedError):
        return case
    return replace(case, **{which: made}, told=(*case.told, f"{which} {change.__name__}"))


def changed(rng: random.Random, case: Case) -> Case:
    """The case with one to three things changed."""
    kinds = (_change_part, _change_part, _change_part, _change_part, _change_parts, _change_shape,
             _change_layout, _change_input)
    for _ in range(rng.choice((1, 1, 1, 2, 3))):
        case = rng.choice(kinds)(rng, case)
    return case


def verdict(case: Case) -> str | None:
    """What is wrong with how the products take the case; None where nothing is."""
    packed = Packed(case.layout, case.shape, case.parts)
    try:
        y = linear(case.x, packed, case.bias)
    except GossamerError:
        y = None
    wrong = None if y is None else _wrong(case, packed, y)
    try:
        explain(case.x, packed)
        image = case.x.reshape(1, -1, case.x.shape[0], 1) if case.x.dim() == 2 else case.x
        z = conv2d(image, packed, case.bias)
    except (GossamerError, RuntimeError) as error:
        # An input that cannot be made an image is no finding.
        if not isinstance(error, GossamerError) and "shape" not in str(error):
            raise
        z = None
    if wrong is None and z is not None and y is not None and case.x.dim() == 2:
        flat = image.double()[0, :, :, 0].t()
        wrong = _differs(z[0, :, :, 0].t(), flat, packed, case.bias)
    return wrong


def _wrong(case: Case, packed: Packed, y: Tensor) -> str | None:
    wrong = _differs(y.reshape(-1, y.shape[-1]), case.x.double().reshape(-1, packed.shape[1]),
                     packed, case.bias)
    if wrong or packed.device.type != "cpu" or not LAYOUTS[packed.layout].any_weight:
        return wrong
    if packed.layout in ("dense", "group_nm"):  # rows beyond the last may take any slot
        return None
    again = pack(unpack(packed), support_of(packed), packed.layout)
    for name in LAYOUTS[packed.layout].parts[1:]:
        if not torch.equal(again.parts[name], packed.parts[name]):
            return f"part {name} is accepted, and another one after packing again"
    return None


def _differs(y: Tensor, x: Tensor, packed: Packed, bias: Tensor | None) -> str | None:
    weight = unpack(packed).double()
    if y.device.type != "cpu" or weight.device.type != "cpu":
        return None
    limit = 1e30 if y.dtype in (torch.float32, torch.bfloat16, torch.float64) else 1e4
    calm = (weight.abs() < limit).all(1)  # rows without NaN, inf and what overflows
    if bias is not None:
        calm &= bias.double().abs() < limit
    right, size = x @ weight.t(), x.abs() @ weight.abs().t() + 1e-6
    if bias is not None:
        right, size = right + bias.double(), size + bias.double().abs()
    dtype = y.dtype
    fine = {torch.float64: 1e-9, torch.float32: 1e-5, torch.bfloat16: 3e-2, torch.float16: 5e-3}
    y = y.double().nan_to_num(nan=limit * 1e6)
    off = ((y - right).abs() > fine[dtype] * size)[:, calm] & (
        size[:, calm] < 6 * limit)
    if y.shape != right.shape or bool(off.any()):
        return f"{int(off.sum())} of {off.numel()} outputs are wrong"
    return None


def run(seed: int) -> str | None:
    """One case by number: what is wrong with it, or None."""
    rng = random.Random(seed)
    case = whole(rng)
    about = f"{case.layout} {tuple(case.shape)} {case.x.dtype} batch {case.x.shape[0]}"
    case = changed(rng, case)
    try:
        wrong = verdict(case)
    except Exception as error:  # the finding is that it is no GossamerError
        wrong = f"{type(error).__name__}: {str(error).splitlines()[0] if str(error) else ''}"
    return None if wrong is None else f"{about}; {', '.join(case.told)}: {wrong}"
