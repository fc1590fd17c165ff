"""WordEncoder: BM25 impacts for documents, counts of words for queries."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any, ClassVar

import numpy as np

from gossamer.core import DataError, StoreError
from gossamer.layout.rows import Rows, as_rows
from gossamer.retrieval.bm25 import BM25, Bm25Impacts
from gossamer.retrieval.exchange import Lexicon
from gossamer.retrieval.text import Tokeniser


class WordEncoder:
    """Encode by the statistics of the collection that it was fitted on.

    Words that came up later have no impact, and the weight of a word stays what it was: fit anew
    when the collection has become another one.

    >>> encoder, rows = WordEncoder.fit(["a flat plate", "flow past a flat plate", "shear flow"])
    >>> rows.count, encoder.queries(["flat flow"]).row(0)[0].tolist()
    (3, [0, 2])
    """

    kind: ClassVar[str] = "bm25"

    def __init__(self, impacts: Bm25Impacts) -> None:
        if impacts.words is None:
            raise DataError("Impacts that were fitted on counts cannot read text.")
        self.impacts = impacts
        self.lexicon = Lexicon(impacts.words)
        self._known = {word: i for i, word in enumerate(impacts.words)}
        self._read = impacts.tokeniser.reader()

    @classmethod
    def fit(
        cls, texts: Sequence[str], stem: str | None = None, bm25: BM25 | None = None,
    ) -> tuple[WordEncoder, Rows]:
        """An encoder of a collection, and the collection's rows.

        Raises:
            DataError: there is no text, or none with a word.
            NeedsError: stems are asked for and PyStemmer is not installed.
        """
        impacts = (bm25 or BM25()).fit(texts, Tokeniser(stem=stem))
        return cls(impacts), impacts.rows

    @classmethod
    def restore(cls, found: Mapping[str, Any]) -> WordEncoder:
        """From what `describe` gave.

        Raises:
            StoreError: a part of it is missing or does not fit.
        """
        try:
            words = tuple(str(word) for word in found["words"])
            idf = np.array(found["idf"], np.float64)
            empty = as_rows([], max(1, len(words)))
            impacts = Bm25Impacts(
                BM25(**found["bm25"]), Tokeniser(found["stem"], frozenset(found["stop"])), empty,
                words, idf, float(found["mean_length"]))
        except (KeyError, TypeError, ValueError) as error:
            raise StoreError(f"The words of the encoder are damaged ({error}).") from error
        if idf.shape != (len(words),):
            raise StoreError(f"The encoder has {len(words)} words but {idf.size} frequencies.")
        return cls(impacts)

    def documents(self, texts: Sequence[str]) -> Rows:
        """Impacts of further texts."""
        return self.impacts.documents(list(texts))

    def queries(self, texts: Sequence[str]) -> Rows:
        """Counts of the known words of each query."""
        counted = [Counter(self._known[word] for word in self._read(text) if word in self._known)
                   for text in texts]
        return as_rows(counted, len(self._known))

    def describe(self) -> dict[str, Any]:
        """Settings, words and statistics."""
        impacts = self.impacts
        return {
            "bm25": asdict(impacts.bm25), "stem": impacts.tokeniser.stem,
            "stop": sorted(impacts.tokeniser.stop), "mean_length": impacts.mean_length,
            "words": list(impacts.words or ()), "idf": impacts.idf.tolist(),
        }
