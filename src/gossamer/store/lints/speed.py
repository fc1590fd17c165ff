"""Lint on speed: a layout without a kernel on this machine gives no speed."""

from __future__ import annotations

from collections.abc import Sequence

from gossamer.store.inspection import Check, SiteRow


def kernels(rows: Sequence[SiteRow]) -> Check:
    """Sparse matrices that nothing on this machine computes from their packed form."""
    sparse = [row for row in rows if row.nonzeros < row.weights]
    slow = [row for row in sparse if row.kernel in ("reference", "dense")]
    used = sorted({row.kernel for row in sparse} - {"reference", "dense"})
    figures = {"sparse_sites": len(sparse), "without_kernel": len(slow), "kernels": used,
               "layouts_without_kernel": sorted({row.layout for row in slow})}
    if not slow:
        words = f"run on {', '.join(used)}" if sparse else "are absent, so nothing is skipped"
        return Check("kernel", "ok", f"Sparse matrices {words}.", figures, 3)
    layouts = ", ".join(sorted({row.layout for row in slow}))
    return Check(
        "kernel", "warn",
        f"{len(slow)} of {len(sparse)} sparse matrices ({layouts}) have no kernel on this machine: "
        "they compute as dense. A speed-up claimed for them is simulated.", figures, 3,
    )
