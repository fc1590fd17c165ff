"""Sparse vectors with the statistics of learned sparse retrieval, and queries of known sources.

Documents come in blocks that each have a random generator of their own, so any part of a
collection can be drawn alone, the same every time, in the memory of one block.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property
from typing import Annotated, TypeAlias

import annotated_types as at
import numpy as np
from numpy.typing import NDArray

from gossamer.core import ConfigError, validate
from gossamer.core.errors import unknown

__all__ = ["PRESETS", "SpladeLike", "TopicMixture", "Vectors", "splade_like"]

Vectors: TypeAlias = tuple[NDArray[np.int64], NDArray[np.int32], NDArray[np.float32]]
"""Starts ``[count + 1]``, terms ``[nnz]`` (rising inside a row) and weights ``[nnz]``."""

_BLOCK = 4096
_TOPIC_TERMS = 400
_SOURCE_BLOCKS = 16  # sources of queries are drawn from so many blocks: documents are alike
_TOPICS, _SOURCES, _QUERIES = 1 << 40, 2 << 40, 3 << 40  # seeds beside those of the blocks


@dataclass(frozen=True)
class TopicMixture:
    """Documents of a main topic (70 % of terms), a minor one (15 %) and background terms (15 %).

    Term popularity falls as ``rank^-0.9``. A topic is 400 terms drawn by ``popularity^0.75`` with
    gamma-distributed preferences; topics have uneven sizes. A document has Normal(128, 30) terms,
    40 to 260; its weights are log-normal, larger for terms that its topic prefers. A query is 34
    terms of its source's topics with 10 terms of the source itself.
    """

    seed: Annotated[int, at.Ge(0), "of everything that is drawn"] = 0
    vocabulary: Annotated[int, at.Ge(1000), "terms"] = 30522
    topics: Annotated[int, at.Ge(1), "number of topics"] = 2000

    def __post_init__(self) -> None:
        validate(self)

    def documents(self, first: int, last: int) -> Vectors:
        """Documents ``first`` to ``last - 1``."""
        return _documents(self, first, last)

    def queries(self, count: int, documents: int) -> tuple[Vectors, NDArray[np.int64]]:
        """Queries with the documents, of so many, that each was made from."""
        source, rows = _sources(self, count, documents)
        rng = np.random.default_rng([self.seed, _QUERIES])
        bag = _Bag(self.vocabulary)
        main, minor = self._topics_of(rows.blocks, rows.places)
        self._fill(rng, bag, main, minor, np.full(count, 34))
        own, weights, row_of = rows.strongest(rng, 10, 1.0)
        bag.add(row_of, own, weights)
        return bag.vectors(count), source

    @cached_property
    def _table(self) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
        """Terms of each topic, and how much it prefers each: ``[topics, 400]``."""
        rng = np.random.default_rng([self.seed, _TOPICS])
        preferences = rng.gamma(0.35, 1.0, (self.topics, _TOPIC_TERMS)) + 1e-3
        preferences /= preferences.sum(1, keepdims=True)
        popularity = _popularity(self.vocabulary) ** 0.75
        return _distinct(rng, popularity, self.topics), preferences.astype(np.float32)

    def _topics_of(
        self, blocks: NDArray[np.int64], places: NDArray[np.int64],
    ) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        drawn = {b: self._pick(np.random.default_rng([self.seed, b])) for b in set(blocks.tolist())}
        pairs = [[drawn[b][0][p], drawn[b][1][p]] for b, p in zip(blocks.tolist(), places.tolist())]
        main, minor = np.array(pairs, np.int64).reshape(-1, 2).T
        return main, minor

    def _pick(self, rng: np.random.Generator) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        sizes = np.random.default_rng([self.seed, _TOPICS, 1]).gamma(1.0, 1.0, self.topics)
        edges = np.cumsum(sizes / sizes.sum())
        main, minor = np.minimum(np.searchsorted(edges, rng.random((2, _BLOCK))), self.topics - 1)
        return main, minor

    def _block(self, rng: np.random.Generator) -> Vectors:
        main, minor = self._pick(rng)
        lengths = np.clip(rng.normal(128, 30, _BLOCK).astype(np.int64), 40, 260)
        bag = _Bag(self.vocabulary)
        self._fill(rng, bag, main, minor, lengths)
        return bag.vectors(_BLOCK)

    def _fill(
        self, rng: np.random.Generator, bag: _Bag, main: NDArray[np.int64],
        minor: NDArray[np.int64], lengths: NDArray[np.int64],
    ) -> None:
        terms, preferences = self._table
        first, second = (lengths * 0.7).astype(np.int64), (lengths * 0.15).astype(np.int64)
        for topic, counts in ((main, first), (minor, second)):
            row_of, column = _gumbel_top(rng, np.log(preferences), topic, counts)
            liked = preferences[topic[row_of], column] * preferences.shape[1]
            bag.add(row_of, terms[topic[row_of], column], self._weights(rng, liked))
        rest = lengths - first - second
        row_of = np.repeat(np.arange(len(lengths)), rest)
        common = _draw(rng, _popularity(self.vocabulary), len(row_of))
        bag.add(row_of, common, self._weights(rng, np.full(len(row_of), 0.3)))

    @staticmethod
    def _weights(rng: np.random.Generator, liked: NDArray[np.float64]) -> NDArray[np.float64]:
        return rng.lognormal(-0.7, 0.55, len(liked)) * (0.4 + np.sqrt(np.minimum(liked, 8.0)))


@dataclass(frozen=True)
class SpladeLike:
    """Documents of one topic whose weights fall off by rank, as those of SPLADE do.

    Term popularity falls as ``rank^-0.9`` (in random order). A topic is 400 draws from it with
    in-topic weight ``rank^-0.7``. A document has LogNormal(log ``document_terms``, 0.3) terms, 4
    to 4 times as many: 70 % from its topic by Gumbel top-k, 30 % by popularity, none twice. The
    weight of the i-th is ``2.8 exp(-i / document_decay)`` times LogNormal(0, 0.25). A query takes
    60 % of its terms from a document, the heavier the likelier, the rest as for its topic.
    """

    seed: Annotated[int, at.Ge(0), "of everything that is drawn"] = 0
    vocabulary: Annotated[int, at.Ge(1000), "terms"] = 30522
    topics: Annotated[int, at.Ge(1), "number of topics"] = 2000
    document_terms: Annotated[float, at.Ge(4), "terms of a document before repetitions"] = 119.0
    document_decay: Annotated[float, at.Gt(0), "ranks in which a weight falls by e"] = 40.0
    query_terms: Annotated[float, at.Ge(2), "terms of a query before repetitions"] = 46.0
    query_decay: Annotated[float, at.Gt(0), "ranks in which a weight falls by e"] = 7.2

    def __post_init__(self) -> None:
        validate(self)

    def documents(self, first: int, last: int) -> Vectors:
        """Documents ``first`` to ``last - 1``."""
        return _documents(self, first, last)

    def queries(self, count: int, documents: int) -> tuple[Vectors, NDArray[np.int64]]:
        """Queries with the documents, of so many, that each was made from."""
        source, rows = _sources(self, count, documents)
        rng = np.random.default_rng([self.seed, _QUERIES])
        topics = {b: self._pick(np.random.default_rng([self.seed, b]))
                  for b in set(rows.blocks.tolist())}
        topic = np.array([topics[b][p] for b, p in zip(rows.blocks.tolist(), rows.places.tolist())])
        lengths = self._lengths(rng, count, self.query_terms)
        own = (0.6 * lengths).astype(np.int64)
        bag = _Bag(self.vocabulary)
        terms, _, row_of = rows.strongest(rng, own, 0.35)
        bag.add(row_of, terms, np.ones(len(terms)))
        self._fill(rng, bag, topic, lengths - own)
        return self._weighted(rng, bag, count, self.query_decay), source

    @cached_property
    def _table(self) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.float32]]:
        """Terms by popularity, terms of each topic ``[topics, 400]``, weights in any topic."""
        rng = np.random.default_rng([self.seed, _TOPICS])
        order = rng.permutation(self.vocabulary)
        draws = _draw(rng, _popularity(self.vocabulary), self.topics * _TOPIC_TERMS)
        terms = order[draws].reshape(self.topics, _TOPIC_TERMS)
        weights = np.arange(1, _TOPIC_TERMS + 1) ** -0.7
        return order, terms, np.broadcast_to(weights.astype(np.float32), terms.shape)

    def _pick(self, rng: np.random.Generator) -> NDArray[np.int64]:
        return rng.integers(0, self.topics, _BLOCK)

    @staticmethod
    def _lengths(rng: np.random.Generator, count: int, mean: float) -> NDArray[np.int64]:
        drawn = rng.lognormal(np.log(mean), 0.3, count)
        return np.clip(drawn, 4, 4 * mean).astype(np.int64)

    def _block(self, rng: np.random.Generator) -> Vectors:
        topic = self._pick(rng)
        bag = _Bag(self.vocabulary)
        self._fill(rng, bag, topic, self._lengths(rng, _BLOCK, self.document_terms))
        return self._weighted(rng, bag, _BLOCK, self.document_decay)

    def _fill(self, rng: np.random.Generator, bag: _Bag, topic: NDArray[np.int64],
              lengths: NDArray[np.int64]) -> None:
        order, terms, weights = self._table
        of_topic = np.minimum((0.7 * lengths).astype(np.int64), terms.shape[1])
        row_of, column = _gumbel_top(rng, np.log(weights), topic, of_topic)
        bag.add(row_of, terms[topic[row_of], column], np.ones(len(row_of)))
        row_of = np.repeat(np.arange(len(lengths)), lengths - of_topic)
        common = _draw(rng, _popularity(self.vocabulary), len(row_of))
        bag.add(row_of, order[common], np.ones(len(row_of)))

    def _weighted(
        self, rng: np.random.Generator, bag: _Bag, count: int, decay: float,
    ) -> Vectors:
        starts, terms, ranks = bag.vectors(count, ranked=True)
        noise = np.exp(0.25 * rng.standard_normal(len(terms)))
        return starts, terms, (2.8 * np.exp(-ranks / decay) * noise).astype(np.float32)


PRESETS = ("splade", "esplade", "unicoil")


def splade_like(preset: str = "splade", seed: int = 0, vocabulary: int = 30522) -> SpladeLike:
    """The law of vectors of SPLADE (about 106 and 43 terms a document and query), of its efficient
    form (181 and 6) or of uniCOIL (68 and 6).

    Raises:
        ConfigError: there is no such preset.

    >>> law = splade_like("unicoil", vocabulary=2000)
    >>> starts, terms, weights = law.documents(0, 10)
    >>> len(starts), bool((weights > 0).all())
    (11, True)
    """
    law = SpladeLike(seed=seed, vocabulary=vocabulary)
    if preset == "splade":
        return law
    if preset == "esplade":
        return replace(law, document_terms=215.0, document_decay=70.0, query_terms=6.6,
                       query_decay=4.0)
    if preset == "unicoil":
        return replace(law, document_terms=75.0, document_decay=30.0, query_terms=6.6,
                       query_decay=4.0)
    raise ConfigError(unknown("preset", preset, PRESETS))


class _Bag:
    """Terms of many rows, in the order in which they were added; of repetitions the first stays."""

    def __init__(self, vocabulary: int) -> None:
        self._vocabulary = vocabulary
        self._keys: list[NDArray[np.int64]] = []
        self._weights: list[NDArray[np.float32]] = []

    def add(self, row_of: NDArray[np.int64], terms: NDArray[np.integer],
            weights: NDArray[np.floating]) -> None:
        self._keys.append(row_of * self._vocabulary + terms)
        self._weights.append(weights.astype(np.float32))

    def vectors(self, count: int, ranked: bool = False) -> Vectors:
        """The rows; with ranks, from 1, in place of weights where asked."""
        together = np.concatenate(self._keys)
        keys, first = np.unique(together, return_index=True)
        starts = np.searchsorted(keys, np.arange(count + 1) * self._vocabulary)
        terms = (keys % self._vocabulary).astype(np.int32)
        if not ranked:
            return starts, terms, np.concatenate(self._weights)[first]
        rows = keys // self._vocabulary
        order = np.lexsort((first, rows))
        ranks = np.empty(len(keys), np.float32)
        ranks[order] = np.arange(len(keys)) - starts[rows[order]] + 1
        return starts, terms, ranks


@dataclass(frozen=True, eq=False)
class _Rows:
    """Chosen documents, and where they were drawn."""

    blocks: NDArray[np.int64]
    places: NDArray[np.int64]
    starts: NDArray[np.int64]
    terms: NDArray[np.int32]
    weights: NDArray[np.float32]

    def strongest(
        self, rng: np.random.Generator, counts: int | NDArray[np.int64], noise: float,
    ) -> tuple[NDArray[np.int32], NDArray[np.float32], NDArray[np.int64]]:
        """So many terms of each, heavier ones likelier, first those chosen first; weights, rows."""
        row_of = np.repeat(np.arange(len(self.starts) - 1), np.diff(self.starts))
        keys = np.log(self.weights) + noise * rng.gumbel(size=len(self.terms))
        order = np.lexsort((-keys, row_of))
        rank = np.arange(len(order)) - self.starts[row_of]
        limit = np.broadcast_to(counts, len(self.starts) - 1)
        kept = order[rank < limit[row_of]]
        return self.terms[kept], self.weights[kept], row_of[kept]


def _documents(law: TopicMixture | SpladeLike, first: int, last: int) -> Vectors:
    if not 0 <= first <= last:
        raise ConfigError(f"Documents {first} to {last} are not a range.")
    starts, terms, weights = [np.zeros(1, np.int64)], [], []
    total = 0
    for b in range(first // _BLOCK, (last + _BLOCK - 1) // _BLOCK if last > first else 0):
        edges, t, w = law._block(np.random.default_rng([law.seed, b]))
        low, high = max(first - b * _BLOCK, 0), min(last - b * _BLOCK, _BLOCK)
        run = slice(edges[low], edges[high])
        starts.append(edges[low + 1:high + 1] - edges[low] + total)
        terms.append(t[run])
        weights.append(w[run])
        total += run.stop - run.start
    return (np.concatenate(starts), np.concatenate([np.zeros(0, np.int32), *terms]),
            np.concatenate([np.zeros(0, np.float32), *weights]))


def _sources(
    law: TopicMixture | SpladeLike, count: int, documents: int,
) -> tuple[NDArray[np.int64], _Rows]:
    if count < 1 or documents < 1:
        raise ConfigError(f"{count} queries of {documents} documents: both must be at least 1.")
    rng = np.random.default_rng([law.seed, _SOURCES])
    blocks = (documents + _BLOCK - 1) // _BLOCK
    chosen = rng.choice(blocks, min(blocks, _SOURCE_BLOCKS), replace=False)
    source = np.zeros(0, np.int64)
    while len(source) < count:
        drawn = rng.choice(chosen, count) * _BLOCK + rng.integers(0, _BLOCK, count)
        source = np.concatenate((source, drawn[drawn < documents]))
    source = source[:count]
    made = {b: law._block(np.random.default_rng([law.seed, b]))
            for b in sorted(set((source // _BLOCK).tolist()))}
    rows = []
    for s in source.tolist():
        edges, t, w = made[s // _BLOCK]
        run = slice(edges[s % _BLOCK], edges[s % _BLOCK + 1])
        rows.append((t[run], w[run]))
    starts = np.cumsum([0, *(len(t) for t, _ in rows)])
    return source, _Rows(source // _BLOCK, source % _BLOCK, starts,
                         np.concatenate([t for t, _ in rows]), np.concatenate([w for _, w in rows]))


def _popularity(vocabulary: int) -> NDArray[np.float64]:
    return np.arange(1, vocabulary + 1, dtype=np.float64) ** -0.9


def _draw(rng: np.random.Generator, odds: NDArray[np.float64], count: int) -> NDArray[np.int64]:
    edges = np.cumsum(odds)
    drawn = np.searchsorted(edges, rng.random(count) * edges[-1])
    capped: NDArray[np.int64] = np.minimum(drawn, len(odds) - 1).astype(np.int64)
    return capped


def _distinct(
    rng: np.random.Generator, odds: NDArray[np.float64], rows: int,
) -> NDArray[np.int64]:
    """400 distinct numbers a row, any of those that 1,200 draws hold: ``[rows, 400]``."""
    draws = 3 * _TOPIC_TERMS
    while True:
        drawn = np.sort(_draw(rng, odds, rows * draws).reshape(rows, draws), 1)
        first = np.ones(drawn.shape, bool)
        first[:, 1:] = drawn[:, 1:] != drawn[:, :-1]
        if int(first.sum(1).min()) >= _TOPIC_TERMS:
            order = np.argsort(np.where(first, rng.random(drawn.shape), 2.0), 1)
            kept: NDArray[np.int64] = np.take_along_axis(drawn, order[:, :_TOPIC_TERMS], 1)
            return kept
        draws *= 2


def _gumbel_top(
    rng: np.random.Generator, logits: NDArray[np.floating], choice: NDArray[np.int64],
    counts: NDArray[np.int64],
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """For row i, ``counts[i]`` columns by the odds of ``logits[choice[i]]``, in falling order."""
    noise = rng.standard_exponential((len(choice), logits.shape[1]), np.float32)
    keys = np.log(np.maximum(noise, 1e-30)) - logits[choice]
    order = np.argsort(keys, 1)[:, :int(counts.max(initial=0))]
    row_of, rank = np.nonzero(np.arange(order.shape[1]) < counts[:, None])
    return row_of, order[row_of, rank]
