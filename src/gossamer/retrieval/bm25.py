"""BM25 as an inner product: everything about a document is computed once, into its impacts."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Annotated, Literal, TypeAlias

import annotated_types as at
import numpy as np
from numpy.typing import NDArray

from gossamer.core import DataError, validate
from gossamer.layout.rows import Rows, as_rows
from gossamer.retrieval.text import Tokeniser

__all__ = ["BM25", "Bm25Impacts", "Documents", "Method"]

Method: TypeAlias = Literal["robertson", "lucene", "atire", "bm25l", "bm25+"]
Documents: TypeAlias = "Rows | Iterable[str] | Iterable[Sequence[str]]"
"""Counts of terms as `Rows`, texts, or lists of words."""

_CHUNK = 1 << 22  # words that are sorted at once


@dataclass(frozen=True)
class BM25:
    """Weights whose inner product with the counts of a query's words is a document's BM25 score.

    With tf the count of a word in a document, L the document's length over the mean length, N the
    number of documents and df those that hold the word, the score is the sum over the words of the
    query of their count times idf times g:

    - robertson: idf max(0, ln((N - df + 1/2) / (df + 1/2))), g = tf / (tf + k1 (1 - b + b L))
    - lucene: idf ln(1 + (N - df + 1/2) / (df + 1/2)), the same g
    - atire: idf ln(N / df), (k1 + 1) times that g
    - bm25l: idf ln((N + 1) / (df + 1/2)), with c = tf / (1 - b + b L),
      g = (k1 + 1) (c + delta) / (k1 + c + delta)
    - bm25+: idf ln((N + 1) / df), g = (k1 + 1) tf / (tf + k1 (1 - b + b L)) + delta

    In the last two a word scores even in documents that lack it. With ``shift`` the impacts are
    g - g(0), and `Bm25Impacts.shift` is the constant of a query that is lacking; without it
    absent words score nothing, as in the original bm25l.

    Robertson and Walker 1994; Lv and Zhai, SIGIR 2011 and CIKM 2011; the variants are compared by
    Kamphuis, de Vries, Boytsov and Lin, ECIR 2020.

    >>> from gossamer.retrieval import BM25
    >>> impacts = BM25().fit(["a flat plate", "flow past a flat plate", "shear flow"])
    >>> impacts.words, impacts.rows.count
    (('flat', 'plate', 'flow', 'past', 'shear'), 3)
    >>> impacts.queries(["shear plate"]).row(0)[0].tolist()
    [1, 4]
    """

    k1: Annotated[float, at.Ge(0), "how slowly further occurrences of a word stop to count"] = 1.5
    b: Annotated[float, at.Ge(0), at.Le(1), "how much long documents are marked down"] = 0.75
    method: Annotated[Method, "variant"] = "lucene"
    delta: Annotated[float, at.Ge(0), "least part of a word that occurs, bm25l and bm25+"] = 0.5
    shift: Annotated[bool, "score absent words in bm25l and bm25+"] = True

    def __post_init__(self) -> None:
        validate(self)

    def fit(self, documents: Documents, tokeniser: Tokeniser | None = None) -> Bm25Impacts:
        """Impacts of a collection, and what queries and later documents need.

        Args:
            documents: texts; lists of words, which are taken as they are; or `Rows` of counts.
            tokeniser: makes words of texts; None takes them as they are.

        Raises:
            DataError: there is no document or no word at all, or a count is not a whole number.
        """
        words: dict[str, int] | None = None
        tokeniser = tokeniser or Tokeniser()
        if isinstance(documents, Rows):
            counts = _checked_counts(documents)
        else:
            words = {}
            counts = _counts(_split(documents, tokeniser), words, grow=True)
        if counts.count == 0 or counts.nnz == 0:
            raise DataError("BM25 needs at least one document with a word in it.")
        frequencies = np.bincount(counts.terms, minlength=counts.vocabulary)
        mean = float(counts.weights.sum(dtype=np.float64)) / counts.count
        idf = self._idf(frequencies, counts.count)
        return Bm25Impacts(self, tokeniser, self._impacts(counts, idf, mean),
                           None if words is None else tuple(words), idf, mean)

    def _idf(self, frequencies: NDArray[np.int64], count: int) -> NDArray[np.float64]:
        df = frequencies.astype(np.float64)
        odds = (count - df + 0.5) / (df + 0.5)
        if self.method == "robertson":
            idf = np.maximum(0.0, np.log(np.maximum(odds, 1.0)))
        elif self.method == "lucene":
            idf = np.log1p(odds)
        elif self.method == "atire":
            idf = np.log(count / np.maximum(df, 1.0))
        elif self.method == "bm25l":
            idf = np.log((count + 1) / (df + 0.5))
        else:
            idf = np.log((count + 1) / np.maximum(df, 1.0))
        return np.where(df > 0, idf, 0.0)

    def _at_zero(self) -> float:
        """g of a word that does not occur."""
        if self.method == "bm25l":
            return (self.k1 + 1) * self.delta / max(self.k1 + self.delta, 1e-300)
        return self.delta if self.method == "bm25+" else 0.0

    def _impacts(self, counts: Rows, idf: NDArray[np.float64], mean: float) -> Rows:
        weights = np.empty(counts.nnz, np.float32)
        row_of = np.repeat(np.arange(counts.count), np.diff(counts.starts))
        lengths = np.bincount(row_of, counts.weights, counts.count)
        norms = 1 - self.b + self.b * lengths / mean
        lost = self._at_zero() if self.shift else 0.0
        for at_ in range(0, counts.nnz, _CHUNK):
            run = slice(at_, at_ + _CHUNK)
            tf, norm = counts.weights[run].astype(np.float64), norms[row_of[run]]
            if self.method == "bm25l":
                c = tf / norm + self.delta
                g = (self.k1 + 1) * c / (self.k1 + c)
            else:
                g = tf / (tf + self.k1 * norm)
                if self.method in ("atire", "bm25+"):
                    g *= self.k1 + 1
                if self.method == "bm25+":
                    g += self.delta
            weights[run] = idf[counts.terms[run]] * (g - lost)
        return as_rows((counts.starts, counts.terms, weights), counts.vocabulary)


@dataclass(frozen=True, eq=False)
class Bm25Impacts:
    """A collection's impacts, with the statistics that queries and later documents are read by.

    Args:
        bm25: the scoring.
        tokeniser: makes words of texts.
        rows: impacts, a row a document; words that score nothing are left out.
        words: the word of each term; None where documents came as counts.
        idf: float64 ``[vocabulary]``.
        mean_length: words in a document, on average.
    """

    bm25: BM25
    tokeniser: Tokeniser
    rows: Rows
    words: tuple[str, ...] | None
    idf: NDArray[np.float64]
    mean_length: float

    def queries(self, queries: Documents) -> Rows:
        """Queries as rows of word counts; words that no document holds are left out."""
        return self._read(queries)

    def documents(self, documents: Documents) -> Rows:
        """Impacts of further documents under the statistics of the collection; new words get none.

        A word that the collection does not know has no impact but lengthens the document.
        """
        if isinstance(documents, Rows) or self.words is None:
            return self.bm25._impacts(self._read(documents), self.idf, self.mean_length)
        known = {word: i for i, word in enumerate(self.words)}
        counts = _counts(_split(documents, self.tokeniser), known, grow=True)
        idf = np.zeros(counts.vocabulary)
        idf[:len(self.idf)] = self.idf
        rows = self.bm25._impacts(counts, idf, self.mean_length)
        return as_rows((rows.starts, rows.terms, rows.weights), len(self.idf))

    def unknown(self, queries: Iterable[str] | Iterable[Sequence[str]]) -> list[list[str]]:
        """The words of each query that no document holds."""
        known = frozenset(self.words or ())
        return [[word for word in words if word not in known]
                for words in _split(queries, self.tokeniser)]

    def shift(self, queries: Rows) -> NDArray[np.float64]:
        """What the inner product of each query lacks to its score: float64 ``[queries]``."""
        if not self.bm25.shift or self.bm25._at_zero() == 0:
            return np.zeros(queries.count)
        row_of = np.repeat(np.arange(queries.count), np.diff(queries.starts))
        parts = queries.weights * self.idf[queries.terms] * self.bm25._at_zero()
        return np.bincount(row_of, parts, queries.count).astype(np.float64)

    def _read(self, data: Documents) -> Rows:
        if isinstance(data, Rows):
            counts = _checked_counts(data)
            if counts.vocabulary > len(self.idf):
                raise DataError(
                    f"Counts over {counts.vocabulary} terms do not fit a collection of "
                    f"{len(self.idf)} terms."
                )
            return as_rows(counts, len(self.idf))
        if self.words is None:
            raise DataError("This collection was fitted on counts: give counts as Rows, not text.")
        known = {word: i for i, word in enumerate(self.words)}
        return _counts(_split(data, self.tokeniser), known, grow=False)


def _checked_counts(rows: Rows) -> Rows:
    odd = rows.weights != np.rint(rows.weights)
    if odd.any():
        raise DataError(f"Counts must be whole numbers, not {rows.weights[int(np.argmax(odd))]}.")
    return rows


def _split(
    documents: Iterable[str] | Iterable[Sequence[str]], tokeniser: Tokeniser,
) -> Iterator[Sequence[str]]:
    if isinstance(documents, str):
        raise DataError("Give a list of texts, not one text.")
    read = tokeniser.reader()
    for i, document in enumerate(documents):
        if not isinstance(document, Sequence):
            raise DataError(f"Text {i} is neither a string nor a list of words: {document!r}.")
        yield read(document) if isinstance(document, str) else document


def _counts(documents: Iterable[Sequence[str]], words: dict[str, int], grow: bool) -> Rows:
    """How often each word is in each document; words that are not known are added or left out."""
    ids: list[int] = []
    ends, parts = [0], []
    for document in documents:
        if grow:
            ids += [words.setdefault(word, len(words)) for word in document]
        else:
            ids += [words[word] for word in document if word in words]
        ends.append(len(ids))
        if len(ids) >= _CHUNK:
            parts.append(_count_chunk(ids, ends))
            ids, ends = [], [0]
    parts.append(_count_chunk(ids, ends))
    odd = next((word for word in words if not isinstance(word, str)), None)
    if odd is not None:
        raise DataError(f"Lists of words hold strings, not {odd!r}; give counts as Rows.")
    lengths = np.concatenate([np.zeros(1, np.int64), *(part[0] for part in parts)])
    terms, counts = (np.concatenate([part[i] for part in parts]) for i in (1, 2))
    return as_rows((np.cumsum(lengths), terms, counts), max(1, len(words)))


def _count_chunk(
    ids: list[int], ends: list[int],
) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]:
    row_of = np.repeat(np.arange(len(ends) - 1), np.diff(ends))
    keys, counts = np.unique(row_of << 32 | np.array(ids, np.int64), return_counts=True)
    return np.bincount(keys >> 32, minlength=len(ends) - 1), keys & 0xFFFFFFFF, counts
