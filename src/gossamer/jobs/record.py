"""Record: everything that is kept of one row of the frontier, as one JSON file."""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace
from typing import Any

from gossamer.core import StoreError
from gossamer.measure import Point


@dataclass(frozen=True)
class Layer:
    """One pruned matrix.

    Args:
        name: of its site.
        density: share of the weights kept.
        error: squared error of its output on the calibration inputs, relative to the output;
            None where the system saw no inputs.
        weight_error: squared change of the weights, relative to the weights.
    """

    name: str
    density: float
    error: float | None = None
    weight_error: float | None = None


@dataclass(frozen=True)
class Record:
    """A point with what the page shows beside its figures.

    Args:
        point: the figures; ``system`` holds id, label, title, target, pattern, density.
        layers: pruned matrices in the order of the model.
        sample: the text that the model wrote after the prompt.
        baseline: True for a dense form of the model.
        failed: why nothing could be measured, in one sentence.
    """

    point: Point
    layers: tuple[Layer, ...] = ()
    sample: str = ""
    baseline: bool = False
    failed: str | None = None

    def with_point(self, point: Point) -> Record:
        """The same record around other figures."""
        return replace(self, point=point)

    def to_json(self) -> dict[str, Any]:
        """Plain JSON values."""
        return {
            "point": self.point.to_json(), "layers": [asdict(layer) for layer in self.layers],
            "sample": self.sample, "baseline": self.baseline, "failed": self.failed,
        }

    @staticmethod
    def from_json(record: Any) -> Record:
        """Inverse of `to_json`; StoreError where it is not one."""
        try:
            layers = tuple(
                Layer(str(row["name"]), float(row["density"]), _maybe(row["error"]),
                      _maybe(row["weight_error"]))
                for row in record["layers"]
            )
            return Record(Point.from_json(record["point"]), layers, str(record["sample"]),
                          bool(record["baseline"]), record["failed"])
        except (KeyError, TypeError, ValueError) as error:
            raise StoreError(f"A saved point lacks or garbles {error}.") from error


def _maybe(value: Any) -> float | None:
    return None if value is None else float(value)
