"""Pattern: what is chosen together (unit) and who competes with whom (pool)."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass

from gossamer.core.errors import PatternError, unknown

Tile = tuple[int | None, int | None]

_MOST_ROWS = 1 << 15  # of a chunk of grouped N:M: rows in it are numbered in int16


@dataclass(frozen=True)
class Pattern:
    """A sparsity pattern over a matrix ``[rows, cols]``.

    Args:
        unit: rows and columns of the cell that is kept or dropped as a whole.
        pool: rows and columns of the region inside which cells compete; None means all.
        exact: units kept in every pool, where the pattern itself fixes it (the N of N:M).
        group: of grouped N:M, how many rows of a chunk share each choice of N places.

    >>> nm(2, 4)
    Pattern(unit=(1, 1), pool=(1, 4), exact=2, group=None)
    """

    unit: tuple[int, int] = (1, 1)
    pool: Tile = (None, None)
    exact: int | None = None
    group: int | None = None

    def __post_init__(self) -> None:
        if min(self.unit) < 1:
            raise PatternError(f"A pattern unit needs sides of at least 1, not {self.unit}.")
        for side, unit in zip(self.pool, self.unit):
            if side is not None and (side < unit or side % unit):
                raise PatternError(
                    f"A pool side must be a positive multiple of the unit side {unit}, not {side}."
                )
        if self.exact is not None:
            rows, cols = self.pool
            if rows is None or cols is None:
                raise PatternError("An exact count needs a pool of fixed size.")
            size = (rows // self.unit[0]) * (cols // self.unit[1])
            if not 0 < self.exact <= size:
                raise PatternError(
                    f"Cannot keep {self.exact} of {size} in each group: N must lie in 1..M of N:M."
                )
        if self.group is not None and (
            self.group < 1 or self.exact is None or self.unit != (1, 1) or self.pool[0] != 1
        ):
            raise PatternError(
                f"Rows are grouped in N:M patterns alone, at least 1 to a choice, not {self.group}."
            )

    @property
    def is_nm(self) -> bool:
        """True for plain N:M, N kept in every run of M columns."""
        return (
            self.exact is not None and self.unit == (1, 1) and self.pool[0] == 1
            and self.group is None
        )

    @property
    def grouped(self) -> tuple[int, int, int] | None:
        """N, M and the group of grouped N:M; None for every other pattern."""
        if self.group is None:
            return None
        return self.exact or 1, self.pool[1] or 1, self.group

    @property
    def density(self) -> float | None:
        """Share of weights kept, where the pattern alone fixes it."""
        if self.exact is None or self.pool[0] is None or self.pool[1] is None:
            return None
        return self.exact * self.unit[0] * self.unit[1] / (self.pool[0] * self.pool[1])

    def fits(self, rows: int, cols: int, where: str = "the matrix") -> None:
        """Raise PatternError, which names ``where``, if the pattern does not tile the matrix.

        Grouped N:M overhangs the edges; its chunk may have at most twice the matrix's rows.
        """
        if self.grouped is not None:
            n, m, g = self.grouped
            height = math.comb(m, n) * g
            if height > max(2 * rows, 1) or height > _MOST_ROWS:
                raise PatternError(
                    f"{where}: {self} needs chunks of {height} rows, too many for {rows}; choose "
                    "a smaller group or M."
                )
            return
        if rows % self.unit[0] or cols % self.unit[1]:
            raise PatternError(
                f"{where}: blocks of {self.unit[0]}x{self.unit[1]} do not tile "
                f"{rows}x{cols}; use a block that divides both sides."
            )
        if self.is_nm and cols % (self.pool[1] or 1):
            raise PatternError(
                f"{where}: width {cols} is not a multiple of M={self.pool[1]} in {self}; "
                f"choose an M that divides {cols}, or leave this layer out."
            )
        if self.exact is not None and (rows % (self.pool[0] or 1) or cols % (self.pool[1] or 1)):
            raise PatternError(
                f"{where}: groups of {self.pool[0]}x{self.pool[1]} do not tile {rows}x{cols}; "
                "use a group that divides both sides."
            )

    def __str__(self) -> str:
        if self.is_nm or self.group is not None:
            return f"{self.exact}:{self.pool[1]}" + (f":{self.group}" if self.group else "")
        if self.unit[0] > 1 and self == channel_groups(self.unit[0]):
            return f"groups{self.unit[0]}"
        tile = "x".join("all" if side is None else str(side) for side in self.pool)
        if self.unit != (1, 1) or self.exact is not None:
            block = f"{self.unit[0]}x{self.unit[1]}"
            count = "" if self.exact is None else f"{self.exact} of "
            return block if self == Pattern(self.unit) else f"{count}{block} in {tile}"
        names = {Pattern(): "unstructured", Pattern(pool=(1, None)): "rows"}
        named = f"1x1 in {tile}" if self.pool[0] is not None else f"columns{self.pool[1]}"
        return names.get(self, named)


def unstructured() -> Pattern:
    """All weights of a matrix compete with one another."""
    return Pattern()


def rows() -> Pattern:
    """Each output row keeps its own share (also: constant fan-in)."""
    return Pattern(pool=(1, None))


def columns(width: int) -> Pattern:
    """Each block of ``width`` columns keeps its own share, rows inside it compete."""
    return Pattern(pool=(None, width))


def nm(n: int, m: int) -> Pattern:
    """N kept in every run of M consecutive columns."""
    if not 0 < n <= m:
        raise PatternError(f"In the pattern {n}:{m} (N:M, N kept of M) N must lie in 1..M.")
    return Pattern(pool=(1, m), exact=n)


def block(height: int, width: int) -> Pattern:
    """Whole blocks of ``height`` x ``width`` are kept or dropped."""
    return Pattern(unit=(height, width))


def channel_groups(size: int) -> Pattern:
    """Groups of ``size`` adjacent output rows keep the same inputs, each group equally many."""
    return Pattern(unit=(size, 1), pool=(size, None))


def group_nm(n: int, m: int, group: int) -> Pattern:
    """N of M columns, each of the C(M, N) choices taken by ``group`` rows of a chunk of rows."""
    return Pattern(pool=nm(n, m).pool, exact=n, group=group)


def parse_pattern(text: str) -> Pattern:
    """Read a pattern: ``2:4``, ``2:4:8``, ``16x16``, ``groups8``, ``rows``, ``unstructured`` or
    ``columns128``.

    >>> str(parse_pattern("2:4"))
    '2:4'
    """
    text = text.strip().lower()
    if match := re.fullmatch(r"(\d+):(\d+)", text):
        return nm(int(match[1]), int(match[2]))
    if match := re.fullmatch(r"(\d+):(\d+):(\d+)", text):
        return group_nm(int(match[1]), int(match[2]), int(match[3]))
    if match := re.fullmatch(r"groups(\d+)", text):
        return channel_groups(int(match[1]))
    if match := re.fullmatch(r"(\d+)x(\d+)", text):
        return block(int(match[1]), int(match[2]))
    if match := re.fullmatch(r"columns(\d+)", text):
        return columns(int(match[1]))
    named = {"unstructured": unstructured, "rows": rows}
    if text not in named:
        raise PatternError(unknown("pattern", text, [*named, "2:4", "2:4:8", "16x16", "groups8",
                                                  "columns128"]))
    return named[text]()
