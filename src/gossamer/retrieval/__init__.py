"""Keep a few terms of each text, and find texts by them."""

from gossamer.retrieval.bm25 import BM25, Bm25Impacts
from gossamer.retrieval.text import Tokeniser

__all__ = ["BM25", "Bm25Impacts", "Tokeniser"]
