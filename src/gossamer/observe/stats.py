"""Statistics of a site's input, accumulated in float32 or wider over calibration tokens."""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import dataclass, field
from typing import Any, TypeVar

import torch
from torch import Tensor

from gossamer.core.errors import ConfigError, DataError, NeedsError, unknown

T = TypeVar("T")

NEEDS = {
    "input_sum": "sum over tokens of every input feature, float64 [in]",
    "input_sq": "sum over tokens of every squared input feature, float64 [in]",
    "input_gram": "sum over tokens of x x^T, float32 [in, in]",
    "input": "the inputs themselves, [tokens, in]",
}


@dataclass
class Stats:
    """What was asked for about the input of one site (sites that share an input share this)."""

    site: str
    needs: frozenset[str]
    tokens: int = 0
    values: dict[str, Tensor] = field(default_factory=dict)
    chunks: list[Tensor] = field(default_factory=list)
    derived: dict[str, Any] = field(default_factory=dict)

    def add(self, x: Tensor) -> None:
        """Accumulate inputs ``[..., in]``; raises DataError naming the site on NaN or infinity."""
        x = x.detach().reshape(-1, x.shape[-1])  # [tokens, in]
        if x.shape[0] == 0:
            return
        wide = x.float()
        sums = wide.sum(0, dtype=torch.float64)
        if not bool(torch.isfinite(sums).all()):
            raise DataError(
                f"{self.site}: an activation in its input is NaN or infinite; "
                "check the model and the calibration text, or compute in a wider dtype."
            )
        self.tokens += x.shape[0]
        if "input_sum" in self.needs:
            self._add("input_sum", sums)
        if "input_sq" in self.needs:
            self._add("input_sq", wide.square().sum(0, dtype=torch.float64))
        if "input_gram" in self.needs:
            known = self.values.get("input_gram")
            self.values["input_gram"] = gram(x) if known is None else add_gram(known, x)
        if "input" in self.needs:
            self.chunks.append(x.clone())

    def _add(self, name: str, value: Tensor) -> None:
        self.values[name] = value if name not in self.values else self.values[name] + value

    def __getitem__(self, name: str) -> Tensor:
        if self.tokens == 0:
            raise DataError(
                f"{self.site} was never reached in calibration, so nothing is known about its "
                "input; use more or other calibration text."
            )
        if name == "input":
            return torch.cat(self.chunks) if self.chunks else self._missing(name)
        return self.values[name] if name in self.values else self._missing(name)

    def once(self, name: str, compute: Callable[[], T]) -> T:
        """What ``compute`` returns, kept for the other sites that share this input."""
        if name not in self.derived:
            self.derived[name] = compute()
        found: T = self.derived[name]
        return found

    def _missing(self, name: str) -> Tensor:
        raise NeedsError(f"{self.site}: the statistic {name!r} was not among the collected "
                         f"{sorted(self.needs)}; declare it in the part's needs.")

    @property
    def mean(self) -> Tensor:
        """Mean of every input feature, float64 [in]."""
        return self["input_sum"] / self.tokens

    @property
    def variance(self) -> Tensor:
        """Population variance of every input feature, float64 [in]."""
        return (self["input_sq"] / self.tokens - self.mean.square()).clamp_min(0)

    @property
    def norm(self) -> Tensor:
        """Euclidean norm over tokens of every input feature, float32 [in]."""
        return self["input_sq"].sqrt().float()


def gram(x: Tensor) -> Tensor:
    """``x^T x`` in float32 of ``[tokens, in]``.

    Products of two half-precision numbers are exact in float32, so on a GPU the matrix units may
    form them; everywhere else the inputs are widened first.
    """
    if x.is_cuda and x.dtype in (torch.bfloat16, torch.float16):
        return torch.mm(x.t(), x, out_dtype=torch.float32)
    wide = x.float()
    return wide.t() @ wide


def add_gram(total: Tensor, x: Tensor) -> Tensor:
    """``total + x^T x`` in place."""
    if x.is_cuda and x.dtype in (torch.bfloat16, torch.float16):
        return total.add_(gram(x))
    wide = x.float()
    return total.addmm_(wide.t(), wide)


def check_needs(needs: Collection[str]) -> frozenset[str]:
    """The needs as a set; an unknown one is refused with the nearest known name."""
    for need in needs:
        if need not in NEEDS:
            raise ConfigError(unknown("statistic", need, NEEDS))
    return frozenset(needs)


def stats_bytes(needs: Collection[str], width: int, tokens: int, itemsize: int) -> int:
    """Bytes that the statistics of one input of ``width`` features take."""
    total = 0
    total += 8 * width * len({"input_sum", "input_sq"} & set(needs))
    total += 4 * width * width * ("input_gram" in needs)
    total += itemsize * width * tokens * ("input" in needs)
    return total
