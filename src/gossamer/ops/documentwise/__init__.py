"""documentwise: exact top-k inner products over lists in order of document, with bounds."""

from gossamer.ops.documentwise.lists import DocumentLists, document_lists
from gossamer.ops.documentwise.searcher import ENGINES, DocumentSearcher, Engine

__all__ = ["ENGINES", "DocumentLists", "DocumentSearcher", "Engine", "document_lists"]
