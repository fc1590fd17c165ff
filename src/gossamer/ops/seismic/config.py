"""How lists are pruned, cut into blocks and summed up."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Literal

import annotated_types as at

from gossamer.core import validate

__all__ = ["Seismic"]


@dataclass(frozen=True)
class Seismic:
    """Parameters of an index of blocked lists.

    With ``pruning="none"``, ``summary_energy=1`` and ``rounding="up"`` an estimate is never below
    the score of a document of its block, so a search with ``heap_factor=1`` that visits all lists
    is exact.

    Bruch, Nardini, Rulli, Venturini, "Efficient inverted indexes for approximate retrieval over
    learned sparse representations", SIGIR 2024.
    """

    n_postings: Annotated[int, at.Ge(1), "postings of a list, on average"] = 3500
    pruning: Annotated[Literal["global", "fixed", "none"], "heaviest of the matrix, of each list"
                       ] = "global"
    max_fraction: Annotated[float, at.Ge(1), "longest list over n_postings, with global"] = 1.5
    centroid_fraction: Annotated[float, at.Gt(0), at.Le(1), "blocks of a list, of its postings"
                                 ] = 0.1
    min_cluster_size: Annotated[int, at.Ge(0), "blocks up to this size are dissolved"] = 2
    doc_cut: Annotated[int, at.Ge(0), "entries by which a document seeks its block; 0: all"] = 15
    blocks: Annotated[Literal["clustered", "weight", "document"],
                      "by likeness, or runs of a list by weight or by document"] = "clustered"
    summary_energy: Annotated[float, at.Gt(0), at.Le(1), "share of a summary that is kept"] = 0.4
    rounding: Annotated[Literal["nearest", "up"], "of the 8-bit codes of summaries"] = "nearest"
    weights: Annotated[Literal["float16", "float32"], "weights that documents are scored by"
                       ] = "float16"
    seed: Annotated[int, at.Ge(0), at.Le(2**31 - 1), "of the centroids"] = 0

    def __post_init__(self) -> None:
        validate(self)
