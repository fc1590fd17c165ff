"""encoders: what makes sparse vectors of texts, and is kept beside the index."""

from __future__ import annotations

from pathlib import Path

from gossamer.core import StoreError
from gossamer.retrieval.encoders.encoder import Encoder, Names, keep, read_kept
from gossamer.retrieval.encoders.query import read_queries
from gossamer.retrieval.encoders.words import WordEncoder

__all__ = ["Encoder", "Names", "WordEncoder", "keep", "open_encoder", "read_queries"]


def open_encoder(index_folder: Path) -> Encoder | None:
    """The encoder that lies beside an index; None where vectors come ready made.

    Raises:
        StoreError: it is damaged, of a newer version, or its model is not there any more.
        NeedsError: it needs a package that is not installed.
    """
    found = read_kept(index_folder)
    if found is None:
        return None
    kind = found.get("kind")
    if kind == WordEncoder.kind:
        return WordEncoder.restore(found)
    if kind == Names.kind:
        return Names([str(token) for token in found.get("tokens", [])])
    if kind == "splade":
        from gossamer.retrieval.encoders.splade import SpladeEncoder  # models loads transformers
        return SpladeEncoder.restore(found)
    raise StoreError(f"An encoder of the kind {kind!r} is not known to this version.")
