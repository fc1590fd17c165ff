"""The record of BM25."""

from __future__ import annotations

from gossamer.cards import Card, system
from gossamer.retrieval.bm25 import BM25

__all__ = ["CARD", "BM25"]

CARD = Card(
    id="bm25",
    family="retrieval",
    title="BM25",
    year=1994,
    paper="Robertson, Walker, Jones, Hancock-Beaulieu, Gatford, TREC-3; Lv, Zhai, SIGIR 2011 and "
          "CIKM 2011; Kamphuis, de Vries, Boytsov, Lin, ECIR 2020",
    keeps="of every text, its words, each with the weight that its count and rarity give it",
    differs=(
        "impacts are computed once for every posting, so that a search is an inner product and "
        "any index of sparse rows serves",
        "words of two or more letters or digits; lengths are kept exactly, where Lucene and "
        "tantivy round them to a byte",
    ),
    needs=("Texts, lists of words, or counts.",),
)

system(CARD)(BM25)
