"""Lints on memory: what density is counted over, and whether the bytes are really saved."""

from __future__ import annotations

from collections.abc import Sequence

from gossamer.store.inspection import Check, SiteRow, Totals

APART = 0.02


def density_scope(totals: Totals) -> Check:
    """The density with and without the tensors that stay dense, such as embeddings and head."""
    prunable, whole = totals.prunable_density, totals.density
    figures = {"prunable": prunable, "whole": whole,
               "outside": 1 - totals.prunable / max(1, totals.weights)}
    if abs(whole - prunable) <= APART:
        return Check("density-scope", "ok", f"The whole model keeps {whole:.1%} of its weights, "
                     f"its prunable matrices {prunable:.1%}.", figures, 8)
    return Check(
        "density-scope", "note",
        f"The prunable matrices keep {prunable:.1%}, but the whole model keeps {whole:.1%}: "
        f"{figures['outside']:.1%} of the weights lie outside them. State both.", figures, 8,
    )


def saves_bytes(rows: Sequence[SiteRow]) -> Check:
    """Packed matrices that take at least as many bytes as the same matrix stored dense."""
    packed = [row for row in rows if row.layout != "dense"]
    worse = [row for row in packed if row.bytes >= row.dense_bytes]
    figures = {
        "packed_sites": len(packed), "larger_than_dense": [row.name for row in worse],
        "excess_bytes": sum(row.bytes - row.dense_bytes for row in worse),
        "break_even": {
            f"{layout} {dtype}": break_even(layout, bits, _index_bits(cols))
            for layout, dtype, bits, cols in sorted({_width(row) for row in packed})
        },
    }
    if not worse:
        return Check("saves-bytes", "ok", f"All {len(packed)} packed matrices are smaller than "
                     "dense.", figures, 3)
    first = worse[0]
    return Check(
        "saves-bytes", "warn",
        f"{len(worse)} of {len(packed)} packed matrices save nothing: {first.name} at density "
        f"{first.density:.0%} takes {first.bytes} bytes as {first.layout}, {first.dense_bytes} "
        "dense. Positions cost bytes too.", figures, 3,
    )


def _width(row: SiteRow) -> tuple[str, str, int, int]:
    return row.layout, row.dtype, 8 * row.dense_bytes // max(1, row.weights), row.shape[1]


def _index_bits(cols: int) -> int:
    return 16 if cols <= 1 << 16 else 32


def break_even(layout: str, value_bits: int, index_bits: int = 16) -> float:
    """Density below which a layout is smaller than dense, for long rows.

    >>> break_even("bitmask", 16), break_even("csr", 32, index_bits=32)
    (0.9375, 0.5)
    """
    if layout in ("csr", "condensed"):
        return value_bits / (value_bits + index_bits)
    if layout == "bitmask":
        return 1 - 1 / value_bits
    return 1.0


def packed_claim(rows: Sequence[SiteRow]) -> Check:
    """Zeros in a matrix that is stored dense save neither disk nor memory."""
    masked = [row for row in rows if row.layout == "dense" and row.packed_bytes < row.dense_bytes]
    now = sum(row.bytes for row in masked)
    could = sum(row.packed_bytes for row in masked)
    figures = {"masked_sites": len(masked), "bytes": now, "bytes_packed": could}
    if not masked:
        return Check("packed-claim", "ok", "No matrix with zeros worth packing is stored dense.",
                     figures, 3)
    return Check(
        "packed-claim", "warn",
        f"{len(masked)} matrices hold zeros but are stored dense: {now} bytes, {could} if packed. "
        "A masked dense tensor is not sparse memory; pack it before counting bytes.", figures, 3,
    )
