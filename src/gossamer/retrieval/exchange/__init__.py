"""exchange: documents from and to the files of other engines, a batch at a time."""

from gossamer.retrieval.exchange.batch import Batch, Options
from gossamer.retrieval.exchange.formats import (
    FORMATS,
    Format,
    guess,
    read_documents,
    write_documents,
)
from gossamer.retrieval.exchange.from_index import documents_of
from gossamer.retrieval.exchange.lexicon import Lexicon, Numbers, Terms

__all__ = [
    "FORMATS", "Batch", "Format", "Lexicon", "Numbers", "Options", "Terms", "documents_of",
    "guess",
    "read_documents", "write_documents",
]
