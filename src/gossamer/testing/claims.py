"""What all suites claim things with: sentences, exact and near equality, budgets, hooks."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn

from gossamer.core import GossamerError, Keep, Pattern, Support

TOLERANCE = {
    torch.float64: 1e-11, torch.float32: 2e-5, torch.bfloat16: 2e-2, torch.float16: 3e-3,
}


def claim(holds: bool, sentence: str) -> None:
    """Raise AssertionError with the sentence unless it holds."""
    if not holds:
        raise AssertionError(sentence)


def same_bits(one: Tensor, two: Tensor) -> bool:
    """True where dtype, shape and every bit agree: -0.0 is not 0.0, but every NaN is a NaN."""
    if one.dtype != two.dtype or one.shape != two.shape:
        return False
    flat = []
    for tensor in (one, two):
        copy = tensor.detach().reshape(-1).clone(memory_format=torch.contiguous_format)
        if copy.is_floating_point():  # torch's own scatter rewrites the payload of a NaN
            copy = copy.masked_fill(copy.isnan(), torch.nan)
        flat.append(copy.view(torch.uint8))
    return torch.equal(*flat)


def near(found: Tensor, truth: Tensor, tolerance: float | None, what: str) -> None:
    """Claim that no entry is farther from the truth than tolerance x its greatest entry.

    Args:
        found: what was computed.
        truth: the same in float64.
        tolerance: None takes the one of found's dtype.
    """
    claim(found.shape == truth.shape,
          f"{what} has shape {tuple(found.shape)}, not {tuple(truth.shape)}.")
    if truth.numel() == 0:
        return
    limit = TOLERANCE[found.dtype] if tolerance is None else tolerance
    error = (found.detach().double() - truth.detach().double()).abs().max()
    scale = truth.detach().abs().max().clamp(min=torch.finfo(torch.float32).tiny)
    ratio = float(error / scale)
    # Written so that nan fails.
    claim(ratio <= limit, f"{what} is off by {ratio:.1e} of its greatest entry, not {limit:.0e}.")


def exact_budget(support: Support, pattern: Pattern, keep: Keep, what: str) -> None:
    """Claim that every pool of a support keeps exactly what the budget says."""
    try:
        support.check(pattern)
    except GossamerError as error:
        raise AssertionError(f"{what} breaks the pattern {pattern}: {error}") from error
    height, width = pattern.unit
    units = support.mask()[::height, ::width]
    rows, cols = units.shape
    tall = (pattern.pool[0] or support.shape[0]) // height
    broad = (pattern.pool[1] or support.shape[1]) // width
    for top in range(0, rows, tall):
        for left in range(0, cols, broad):
            pool = units[top:top + tall, left:left + broad]
            wanted = pattern.exact or keep.units(pool.numel())
            claim(int(pool.sum()) == wanted,
                  f"{what} keeps {int(pool.sum())} of {pool.numel()} units in the pool at row "
                  f"{top * height}, column {left * width}, not {wanted}.")


def refuses(run: Callable[[], object], what: str, mentions: str = "") -> None:
    """Claim that a call raises a GossamerError whose sentence mentions a text."""
    try:
        run()
    except GossamerError as error:
        claim(mentions in str(error), f"The error for {what} must mention {mentions!r}: {error}")
        return
    raise AssertionError(f"{what} must raise a GossamerError; it passed.")


def hooks_of(model: nn.Module) -> int:
    """Number of hooks of every kind on all modules and parameters."""
    tables = [name for name in vars(nn.Module()) if name.endswith("_hooks")]
    modules = sum(len(getattr(m, name)) for m in model.modules() for name in tables)
    return modules + sum(len(p._backward_hooks or ()) for p in model.parameters())
