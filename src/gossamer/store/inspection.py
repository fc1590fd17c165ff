"""What `inspect` reports: rows, totals and checks, as plain values."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any, Literal

Verdict = Literal["ok", "note", "warn", "fail"]


@dataclass(frozen=True)
class Check:
    """One lint's finding.

    Args:
        id: the lint's name.
        verdict: ok, note (state it when you report), warn (a claim would mislead) or fail (a
            claim is wrong).
        sentence: what was found, with the measured numbers.
        figures: the numbers.
        lesson: the lesson in docs/guide/ten-lessons.md that it belongs to.
    """

    id: str
    verdict: Verdict
    sentence: str
    figures: dict[str, Any]
    lesson: int


@dataclass(frozen=True)
class SiteRow:
    """One prunable matrix as it is stored.

    Args:
        name: the site.
        kind: linear, conv1d, expert or conv2d.
        layout: name of the layout, ``dense`` where the parameter is stored as it is.
        shape: rows (outputs) and columns (inputs).
        dtype: of the values.
        kept: entries that the layout keeps.
        nonzeros: kept entries that are not zero.
        bytes: of the stored parts.
        dense_bytes: of the same matrix stored dense in the same dtype.
        packed_bytes: of the smallest layout that holds it; ``bytes`` where it is packed.
        dead_rows: outputs without any weight.
        dead_columns: inputs without any weight.
        conforms: regular patterns that hold in every group.
        claimed: the pattern that was claimed when it was saved.
        broken: why the claim is wrong, if it is.
        kernel: what computes it here: a kernel's name, ``reference`` where a packed layer has
            no kernel, or ``dense`` where it runs as a dense weight.
    """

    name: str
    kind: str
    layout: str
    shape: tuple[int, int]
    dtype: str
    kept: int
    nonzeros: int
    bytes: int
    dense_bytes: int
    packed_bytes: int
    dead_rows: int
    dead_columns: int
    conforms: tuple[str, ...]
    claimed: str | None
    broken: str | None
    kernel: str

    @property
    def weights(self) -> int:
        """Entries of the dense matrix."""
        return self.shape[0] * self.shape[1]

    @property
    def density(self) -> float:
        """Non-zero weights over all weights."""
        return self.nonzeros / max(1, self.weights)

    @property
    def bits(self) -> float:
        """Stored bits for each weight of the dense matrix."""
        return 8 * self.bytes / max(1, self.weights)

    @property
    def runs(self) -> str:
        """How it computes after loading."""
        if self.kernel == "dense":
            return "runs as dense"
        return f"packed, {self.kernel}" if self.layout != "dense" else "dense"


@dataclass(frozen=True)
class Other:
    """A tensor that is not prunable: embeddings, heads, norms, biases."""

    name: str
    shape: tuple[int, ...]
    nonzeros: int
    bytes: int

    @property
    def weights(self) -> int:
        """Its entries."""
        count = 1
        for side in self.shape:
            count *= side
        return count


@dataclass(frozen=True)
class Totals:
    """Sums over a model; densities of its prunable part and of the whole are kept apart.

    Args:
        prunable: weights in prunable matrices.
        prunable_nonzeros: those that are not zero.
        weights: all stored weights, tied ones once.
        nonzeros: those that are not zero.
        bytes: of all tensors as stored.
        dense_bytes: of all tensors stored dense in the same dtypes.
        disk_bytes: of all files of the folder, None for a model in memory.
    """

    prunable: int
    prunable_nonzeros: int
    weights: int
    nonzeros: int
    bytes: int
    dense_bytes: int
    disk_bytes: int | None = None

    @property
    def prunable_density(self) -> float:
        """Density of the prunable matrices alone."""
        return self.prunable_nonzeros / max(1, self.prunable)

    @property
    def density(self) -> float:
        """Density of the whole model."""
        return self.nonzeros / max(1, self.weights)


@dataclass(frozen=True)
class Inspection:
    """What a saved folder or a model in memory really holds.

    Args:
        source: the folder, or the model's class.
        sites: one row a prunable matrix.
        others: the remaining tensors.
        totals: sums.
        checks: findings of all lints.
        system: what made the model, as its folder says.
        report: figures of the run that made it, as its folder says.
    """

    source: str
    sites: tuple[SiteRow, ...]
    others: tuple[Other, ...]
    totals: Totals
    checks: tuple[Check, ...]
    system: dict[str, Any] | None = None
    report: dict[str, Any] | None = None

    @property
    def warnings(self) -> tuple[str, ...]:
        """Sentences of the checks that warn or fail."""
        return tuple(c.sentence for c in self.checks if c.verdict in ("warn", "fail"))

    def table(self) -> list[dict[str, Any]]:
        """One dictionary a site, in the order and with the names of the columns to show."""
        return [
            {
                "site": row.name, "layout": row.layout, "shape": f"{row.shape[0]}x{row.shape[1]}",
                "dtype": row.dtype, "density": row.density, "bits a weight": row.bits,
                "bytes": row.bytes, "pattern": ", ".join(row.conforms) or "none",
                "claimed": row.claimed or "", "runs": row.runs,
            }
            for row in self.sites
        ]

    def __str__(self) -> str:
        """The totals and the checks; `table` has the sites."""
        totals = self.totals
        lines = [
            f"{self.source}: {len(self.sites)} prunable matrices keep "
            f"{totals.prunable_density:.1%}, the whole model {totals.density:.1%} of its "
            f"{totals.weights} weights; {totals.bytes} bytes, {totals.dense_bytes} if dense.",
            *(f"{check.verdict:>4}  {check.sentence}" for check in self.checks),
        ]
        return "\n".join(lines)

    def to_json(self) -> dict[str, Any]:
        """Everything as plain JSON values."""
        return {
            "source": self.source,
            "totals": {**asdict(self.totals), "density": self.totals.density,
                       "prunable_density": self.totals.prunable_density},
            "sites": [
                {**asdict(row), "shape": list(row.shape), "conforms": list(row.conforms),
                 "density": row.density, "bits": row.bits, "runs": row.runs}
                for row in self.sites
            ],
            "others": [{**asdict(other), "shape": list(other.shape)} for other in self.others],
            "checks": [asdict(check) for check in self.checks],
            "system": self.system, "report": self.report,
        }
