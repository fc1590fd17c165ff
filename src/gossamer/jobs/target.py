"""Targets: how sparse a model is to become, written as people write it."""

from __future__ import annotations

import re
from dataclasses import dataclass

from gossamer.core import ConfigError, GossamerError, Pattern, parse_pattern


@dataclass(frozen=True)
class Target:
    """One sparsity that every system is asked to reach.

    Args:
        text: as shown to people, ``50%`` or ``2:4``.
        density: share of the weights kept.
        pattern: the N:M pattern that fixes the density, or None for the system's own pattern.

    >>> parse_target("70%")
    Target(text='70%', density=0.3, pattern=None)
    >>> parse_target("2:4").density
    0.5
    """

    text: str
    density: float
    pattern: str | None = None

    @property
    def slug(self) -> str:
        """The target as part of a file name."""
        return self.text.replace("%", "").replace(":", "of").replace(".", "_")

    @property
    def words(self) -> str:
        """Sparsity and density, both, so that neither is taken for the other."""
        kept = f"sparsity {percent(1 - self.density)}, density {percent(self.density)}"
        return f"{self.pattern}: {kept}" if self.pattern else kept


def parse_target(text: str) -> Target:
    """Read ``70%`` (a sparsity), ``0.3`` (a density) or ``2:4`` (kept of every four).

    Raises:
        ConfigError: none of the three, or nothing or everything would be kept.
    """
    plain = text.strip()
    if match := re.fullmatch(r"(\d+(?:\.\d+)?)\s*%", plain):
        return _by_density(1 - float(match[1]) / 100, text)
    if re.fullmatch(r"\d*\.?\d+", plain):
        return _by_density(float(plain), text)
    if ":" in plain:
        pattern = _nm(plain)
        density = pattern.density or 0.0
        if not 0 < density < 1:
            raise ConfigError(f"Target {text!r} removes nothing; give N:M with N below M.")
        return Target(str(pattern), density, str(pattern))
    raise ConfigError(
        f"Target {text!r} is none of: a sparsity such as 70%, a density such as 0.3, or a "
        "pattern such as 2:4."
    )


def _by_density(density: float, text: str) -> Target:
    density = round(density, 6)  # 1 - 0.7 is not 0.3 in binary
    if not 0 < density < 1:
        raise ConfigError(
            f"Target {text!r} would keep {percent(density)} of the weights; a sparsity in per cent "
            "lies between 0% and 100%, a density between 0 and 1."
        )
    return Target(percent(1 - density).replace(" ", ""), density)


def _nm(text: str) -> Pattern:
    try:
        return parse_pattern(text)
    except GossamerError as error:
        raise ConfigError(f"Target {text!r}: {error}") from error


def percent(share: float) -> str:
    """A share in per cent with no more digits than it needs: ``70%``, ``62.5%``."""
    return f"{round(100 * share, 4):g}%"
