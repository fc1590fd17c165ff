"""The n:32 pattern of bank-balanced chips: rates, bytes and what an uneven mask costs."""

from __future__ import annotations

import math

import torch

from gossamer.core import ConfigError, PatternError, Support, SupportError
from gossamer.core.pattern import parse_pattern

GROUP = 32
RATES = (1, 2, 4, 8, 16, 32)


def rate_of(density: float) -> int:
    """The greatest rate R of `RATES` whose share 1/R holds this density.

    >>> rate_of(0.1), rate_of(0.5), rate_of(0.6)
    (8, 2, 1)
    """
    if not 0 < density <= 1:
        raise ConfigError(f"Density must lie in (0, 1], not {density}.")
    return max(rate for rate in RATES if density * rate <= 1 + 1e-9)


def check_rate(rate: int) -> int:
    """The rate, where it is one of `RATES`.

    Raises:
        ConfigError: it is not a power of two up to 32.
    """
    if rate not in RATES:
        raise ConfigError(f"The sparsity rate R must be one of {', '.join(map(str, RATES))}, "
                          f"not {rate!r}.")
    return rate


def bits_a_weight(rate: int, bits: int) -> float:
    """Bits of a weight at rate R: kept values with log2(32) bits of place each, over R.

    >>> bits_a_weight(16, 8), bits_a_weight(1, 8)
    (0.8125, 8.0)
    """
    index = 0.0 if check_rate(rate) == 1 else math.log2(GROUP)
    return (bits + index) / rate


def balanced_density(pattern: str, density: float) -> float:
    """The density that a pattern keeps in every run of 32, where it is even over such runs.

    Raises:
        PatternError: the pattern does not divide runs of 32.
    """
    parsed = parse_pattern(pattern)
    if not parsed.is_nm:
        return density
    n, m = parsed.exact or 0, parsed.pool[1] or 1
    if GROUP % m:
        raise PatternError(f"The pattern {pattern} does not divide runs of {GROUP} inputs; use "
                           f"N:{GROUP}.")
    return n / m


def load_balance(support: Support, lanes: int = GROUP) -> float:
    """Time of an uneven mask over that of an even one with as many weights: at least 1.

    A lane works through one run of 32 inputs, and so many lanes wait for the slowest of them.
    Columns that do not fill a run of 32 count as absent.

    Raises:
        SupportError: nothing is kept.

    >>> from gossamer.core import nm, select
    >>> load_balance(select(torch.rand(8, 64), nm(4, 32)))
    1.0
    """
    mask = support.mask()
    if not support.nnz:
        raise SupportError("A support that keeps nothing has no load balance.")
    if lanes < 1:
        raise ConfigError(f"lanes must be at least 1, not {lanes}.")
    short = -mask.shape[1] % GROUP
    runs = torch.nn.functional.pad(mask, (0, short)).view(-1, GROUP).sum(1)
    padded = torch.nn.functional.pad(runs, (0, -len(runs) % lanes)).view(-1, lanes)
    slowest = float(padded.amax(1).double().sum()) * lanes
    return slowest / float(runs.sum()) * (len(runs) / padded.numel())


def random_balance(density: float, lanes: int = GROUP) -> float:
    """`load_balance` that is expected of a random mask: mean of the greatest of ``lanes``
    binomial counts over their mean.

    >>> round(random_balance(1.0), 6)
    1.0
    """
    below, expected = 0.0, 0.0
    for count in range(GROUP):
        below += math.comb(GROUP, count) * density**count * (1 - density) ** (GROUP - count)
        expected += 1 - min(below, 1.0) ** lanes
    return expected / (GROUP * density)
