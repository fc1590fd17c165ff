"""The even steps on which the weights of a row lie, found from the weights alone."""

from __future__ import annotations

import torch
from torch import Tensor

_OFF = 0.05      # of a step, by which float32 weights may seem to miss it
_NEIGHBOURS = 2  # float32 numbers on either side of a scale that are tried


def find_steps(weight: Tensor, bits: int) -> tuple[Tensor, Tensor, Tensor] | None:
    """``(scales [rows], zeros [rows], codes [rows, cols])`` with ``(code - zero) * scale`` equal
    to every weight, bit for bit in float32; None where a row lies on no 2^bits even steps.

    >>> scales, zeros, codes = find_steps(torch.tensor([[-0.5, 0.0, 0.25, 1.0]]), 4)
    >>> scales.item(), zeros.item(), codes.tolist()
    (0.25, 2.0, [[0.0, 2.0, 3.0, 6.0]])
    """
    scales = weight.new_ones(weight.shape[0])
    for row, values in enumerate(weight):
        levels = values.unique()
        levels = levels[levels != 0]
        if levels.numel() == 0:
            continue
        if levels.numel() >= 2**bits or not bool(levels.isfinite().all()):
            return None
        scale = _scale(levels, 2**bits - 1)
        if scale is None:
            return None
        scales[row] = scale
    steps = (weight / scales[:, None]).round()
    zeros = -steps.amin(1).clamp_max(0) if weight.shape[1] else torch.zeros_like(scales)
    rebuilt = steps * scales[:, None]
    # A negative zero is no number of steps.
    if not torch.equal(rebuilt, weight) or bool((weight.signbit() & (weight == 0)).any()):
        return None
    return scales, zeros, steps + zeros[:, None]


def _scale(levels: Tensor, most: int) -> float | None:
    """The greatest step that every level, none of them zero, is a whole number of."""
    exact = levels.double()
    far = exact.abs().max()
    steps = far / torch.arange(1, most + 1, device=levels.device)
    ratio = exact / steps[:, None]  # [candidates, levels]
    whole = ratio.round()
    span = whole.amax(1).clamp_min(0) - whole.amin(1).clamp_max(0)
    fits = ((ratio - whole).abs().amax(1) <= _OFF) & (span <= most)
    for near in steps[fits].tolist():
        scale = _exact(levels, near)
        if scale is not None:
            return scale
    return None


def _exact(levels: Tensor, near: float) -> float | None:
    """The float32 number by this one whose multiples the levels are."""
    scale = levels.new_tensor(near)
    for _ in range(_NEIGHBOURS):
        scale = scale.nextafter(scale.new_zeros(()))
    for _ in range(2 * _NEIGHBOURS + 1):
        if torch.equal((levels / scale).round() * scale, levels):
            return float(scale)
        scale = scale.nextafter(scale.new_tensor(torch.inf))
    return None
