"""The record of Seismic."""

from __future__ import annotations

from gossamer.cards import Card, system
from gossamer.ops.seismic import Seismic

__all__ = ["CARD", "Seismic"]

CARD = Card(
    id="seismic",
    family="retrieval",
    title="Seismic",
    year=2024,
    paper="Bruch, Nardini, Rulli, Venturini, SIGIR 2024, arXiv 2404.18812; CIKM 2024, "
          "arXiv 2408.04443",
    keeps="the heaviest postings of the matrix, and of each block of a list the heaviest part of "
          "its largest weights",
    differs=(
        "documents of blocks are kept as 32-bit numbers, not as 64-bit offsets and lengths",
        "ends of the entries of a coordinate and neighbours are plain 32-bit numbers, not "
        "compressed",
        "a document seeks its block by its 15 largest entries or by all of them; the form that "
        "prunes the lists of the centroids is not offered",
        "a summary whose values are all equal has a step of zero, where a division by zero stood",
        "summaries may be rounded up, so that without other cuts a search is exact",
    ),
    needs=("Rows of weights that are not negative.",),
)

system(CARD)(Seismic)
