"""Keep a few terms of each text, and find texts by them."""

from gossamer.retrieval.bm25 import BM25, Bm25Impacts
from gossamer.retrieval.index import Batch, Filter, Hits, IndexConfig, SparseIndex
from gossamer.retrieval.text import Tokeniser

__all__ = ["BM25", "Batch", "Bm25Impacts", "Filter", "Hits", "IndexConfig", "SparseIndex",
           "Tokeniser"]
