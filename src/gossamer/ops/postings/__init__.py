"""postings: top-k inner products of sparse rows through an inverted index by impact."""

from gossamer.ops.postings.reference import search as search_reference
from gossamer.ops.postings.searcher import Found, Searcher
from gossamer.ops.postings.segment import Segment, build

__all__ = ["Found", "Searcher", "Segment", "build", "search_reference"]
