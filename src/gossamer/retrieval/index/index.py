"""SparseIndex: a living index of sparse vectors."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from types import TracebackType
from typing import Any

from gossamer.core import DataError, StoreError
from gossamer.retrieval.index import folder as folders
from gossamer.retrieval.index.asking import knobs_of, one_query, queries_of, whole
from gossamer.retrieval.index.background import Merger
from gossamer.retrieval.index.build import Progress, batches_of, fill, is_stream
from gossamer.retrieval.index.catalogue import Catalogue
from gossamer.retrieval.index.check import Report, check_folder
from gossamer.retrieval.index.config import IndexConfig
from gossamer.retrieval.index.filter import Filter
from gossamer.retrieval.index.hits import Explanation, Hits, explained
from gossamer.retrieval.index.identifiers import checked
from gossamer.retrieval.index.incoming import Batch
from gossamer.retrieval.index.knobs import EXACT, LEVELS, Knobs, Tuned, choose, narrowed, sweep
from gossamer.retrieval.index.merge import groups
from gossamer.retrieval.index.sizes import figures, sizes
from gossamer.retrieval.index.snapshot import Snapshot
from gossamer.retrieval.index.stored import gathered
from gossamer.retrieval.index.writer import Writer

Folder = str | os.PathLike[str]


class SparseIndex:
    """Documents as sparse vectors, found by inner product; in memory, or durable in a folder.

    Made by `build` or `load`. One writer may have a folder open, and any number of readers; a
    search works on what the index was when it began. A change has reached the disk when its method
    returns, and the next search in the same object sees it; readers see it after `refresh`.

    >>> index = SparseIndex.build([{0: 1.0, 2: 0.5}, {2: 2.0}], ids=["a", "b"])
    >>> hits = index.search([{2: 1.0}], k=1)
    >>> hits.ids, hits.scores.tolist()
    ([['b']], [[2.0]])
    >>> index.add([{1: 3.0}], ids=["c"]), index.delete(["b"]), len(index)
    (['c'], 1, 2)
    """

    def __init__(
        self, folder: Path | None, config: IndexConfig, catalogue: Catalogue,
        writer: Writer | None, snapshot: Snapshot,
    ) -> None:
        self.folder, self.config = folder, config
        self._catalogue, self._writer, self._snapshot = catalogue, writer, snapshot
        self._merger = None if writer is None else Merger(writer)
        self._generation = -1
        self._mapped = True
        self._tuned: Tuned | None = None
        self._release: Callable[[], None] | None = None

    @classmethod
    def build(
        cls, rows: Any, ids: Iterable[Any] | None = None, payloads: Iterable[Any] | None = None,
        folder: Folder | None = None, config: IndexConfig | None = None,
        progress: Progress | None = None,
    ) -> SparseIndex:
        """An index of these documents, open for writing.

        A folder appears when all documents are in it, or not at all. Of a stream no more is held
        in memory than goes into one segment, and a collection may be larger than memory.

        Args:
            rows: whatever `gossamer.layout.rows.as_rows` reads; or an iterator of such, or of
                `Batch`, each with its own ids and payloads.
            ids: integers or strings, one for each document; None numbers them from 0.
            payloads: what is kept beside each document, JSON-able; None where there is nothing.
            folder: new folder to keep the index in; None keeps it in memory.
            config: settings.
            progress: called with the documents done, the total and a text.

        Raises:
            DataError: rows, ids or payloads that cannot be kept.
            StoreError: the folder holds something already, or the disk refuses it.
        """
        config = config or IndexConfig()
        if is_stream(rows) and not (ids is None and payloads is None):
            raise DataError("A stream of rows carries its ids and payloads in Batch.")
        total = len(rows) if hasattr(rows, "__len__") else 0
        batches = batches_of(rows, ids, payloads)
        if folder is None:
            writer = fill(None, config, batches, total, progress)
            return cls(None, config, writer.catalogue, writer, writer.snapshot())
        target = folders.plain(folder)
        with folders.fresh(target) as temporary:
            fill(temporary, config, batches, total, progress).catalogue.close()
        return cls.load(target, writable=True, verify=False)

    @classmethod
    def load(
        cls, folder: Folder, writable: bool = False, mmap: bool = True, verify: bool = True,
    ) -> SparseIndex:
        """An index from its folder.

        Opening for writing also finishes what a crash interrupted: SQLite takes back transactions
        that were not complete, and files that none names are removed.

        Args:
            folder: that an index was built or saved into.
            writable: open for writing; a second writer is refused.
            mmap: memory-map segments instead of reading them.
            verify: check the checksum of every array; otherwise only frames, headers, sizes and
                what keeps a search from reading outside of an array.

        Raises:
            StoreError: there is no index, it is damaged or of a newer version, or another writer
                has it open.
        """
        path = folders.plain(folder)
        if writable:
            opened = folders.open_writer(path, mapped=mmap, verify=verify)
            writer = Writer(path, opened.catalogue, opened.config, opened.contents.state,
                            opened.parts)
            index = cls(path, opened.config, opened.catalogue, writer, writer.snapshot())
            index._release = None if opened.lock is None else opened.lock.release
        else:
            opened = folders.open_reader(path, mapped=mmap, verify=verify)
            parts = gathered(opened.parts, opened.config.weights)
            snapshot = Snapshot.of(parts, opened.contents.state.kind)
            index = cls(path, opened.config, opened.catalogue, None, snapshot)
        index._mapped, index._generation = mmap, opened.contents.state.generation
        if opened.contents.knobs is not None:
            index._tuned = Tuned.from_json(opened.contents.knobs)
        return index

    def add(
        self, rows: Any, ids: Iterable[Any] | None = None, payloads: Iterable[Any] | None = None,
    ) -> list[Any]:
        """Add documents; returns their ids. Many at once take far less time than one by one.

        Raises:
            DataError: an id is there already, or rows, ids or payloads cannot be kept.
            StoreError: the index is not open for writing, or the disk refuses; nothing was added.
        """
        writer = self._writing()
        with writer.lock:
            found = writer.add(writer.check(Batch(rows, ids, payloads)))
        self._after_write()
        return found

    def update(
        self, rows: Any, ids: Iterable[Any], payloads: Iterable[Any] | None = None,
    ) -> list[Any]:
        """Put new documents in the place of those with these ids, all in one transaction.

        Args:
            rows: the new documents.
            ids: of documents that are there.
            payloads: new ones for all of them; None leaves those that there are.

        Raises:
            DataError: an id is unknown, or rows, ids or payloads cannot be kept.
            StoreError: the index is not open for writing, or the disk refuses; nothing was changed.
        """
        writer = self._writing()
        with writer.lock:
            new = writer.check(Batch(rows, ids, payloads))
            found = writer.update(new, payloads=payloads is not None)
        self._after_write()
        return found

    def delete(self, ids: Iterable[Any]) -> int:
        """Delete the documents with these ids; returns how many there were.

        Raises:
            DataError: ids of another kind than those of the index.
            StoreError: the index is not open for writing, or the disk refuses; nothing was deleted.
        """
        count = self._writing().delete(ids)
        self._after_write()
        return count

    def search(
        self, queries: Any, k: int = 10, recall: float = 0.95, *, budget: int | None = None,
        candidates: int | None = None, exact: bool = False,
        filter: Filter | Callable[[Any], bool] | Iterable[Any] | None = None, threads: int = 1,
        engine: str = "impact",
    ) -> Hits:
        """The k documents of highest inner product with each query.

        Args:
            queries: whatever `gossamer.layout.rows.as_rows` reads.
            k: at least 1.
            recall: share of the true k best to aim at, by knobs that `tune` stored or by defaults;
                1 is exact.
            budget: postings to add up for a query, in place of what recall says.
            candidates: documents to score for a query and segment, in place of what recall says.
            exact: answer as a scan of all documents would.
            filter: find only documents with these ids, or whose payload this function accepts
                (documents without a payload are not found), or a Filter from `prepare`. Where it
                leaves less than one document in twenty the search is exact.
            threads: queries are shared out among so many.
            engine: "impact"; or one of `gossamer.ops.documentwise`, always exact, whose lists are
                sorted by its first search after a write and take 8 bytes a posting.

        Raises:
            ConfigError: an argument is out of range.
            DataError: a query that is not a sparse vector of the index's vocabulary.
        """
        snapshot, k, threads = self._now(), whole("k", k, 1), whole("threads", threads, 1)
        rows = queries_of(queries, self.config.vocabulary)
        knobs = EXACT if exact or engine != "impact" else knobs_of(
            recall, k, budget, candidates, self._tuned, snapshot.searcher.documents)
        allowed = None
        if filter is not None:
            prepared = filter if isinstance(filter, Filter) else self.prepare(filter)
            allowed, count = prepared.bits_for(snapshot)
            if budget is None:
                knobs = narrowed(knobs, count, snapshot.live)
        top = snapshot.search(rows, k, knobs, engine, allowed, threads)
        return Hits(top.documents, top.scores, top.postings, top.scored, knobs.exact, snapshot)

    def prepare(self, filter: Callable[[Any], bool] | Iterable[Any]) -> Filter:
        """A filter that many searches can use; ids that there are none of are left out.

        A function is asked once about the payload of every document that has one now.
        """
        if callable(filter):
            return Filter([one for one, value in self._catalogue.payloads() if filter(value)])
        return Filter(checked(filter, self._now().kind)[0])

    def tune(
        self, queries: Any, recall: float = 0.95, k: int = 10, progress: Progress | None = None,
    ) -> Knobs:
        """Find the least work that reaches each recall on sample queries, and store it.

        Returns:
            The knobs for ``recall``; where none reach it they say that the search is exact.

        Raises:
            ConfigError: recall or k is out of range.
            DataError: there are no queries.
        """
        choose(recall, whole("k", k, 1), 1, None)
        rows = queries_of(queries, self.config.vocabulary)
        if rows.count == 0:
            raise DataError("Tuning takes some queries.")
        snapshot = self._now()
        self._tuned = sweep(snapshot.searcher, rows, k, (*LEVELS, recall), progress)
        if self._writer is not None:
            self._catalogue.put_knobs(self._tuned.to_json())
        return dict(self._tuned.levels)[recall]

    def explain(self, query: Any, id: Any) -> Explanation:
        """The terms that a query and a document share, and what each brings.

        Args:
            query: one row, or rows of which there is one.
            id: of the document.

        Raises:
            DataError: there is no such document, or not one query.
        """
        return explained(one_query(query, self.config.vocabulary), *self._located(id))

    def payload(self, id: Any) -> Any:
        """What is kept beside a document now, or None.

        Raises:
            DataError: there is no such document.
        """
        self._located(id)
        return self._catalogue.payload(id)

    def merge(self, progress: Progress | None = None) -> None:
        """Put all segments into one, or as few as their settings allow, without deleted documents.

        Searches and writes go on meanwhile. It takes memory for one segment.

        Raises:
            StoreError: the index is not open for writing, or the disk refuses; it is as it was.
        """
        writer = self._writing()
        writer.flush()
        with writer.merging:
            todo = groups(writer.parts, self.config)
            for done, group in enumerate(todo):
                writer.merge(group)
                if progress is not None:
                    progress(done + 1, len(todo), "segments merged")

    def refresh(self) -> bool:
        """See what was written since; returns whether that was anything. A writer always does."""
        if self._writer is not None or self.folder is None:
            return False
        generation = self._catalogue.generation()
        if generation == self._generation:
            return False
        known = {part.source: part for part in self._snapshot.parts if part.stored}
        contents, parts = folders.read_parts(
            self._catalogue, self.folder, known, mapped=self._mapped, verify=True)
        parts = gathered(parts, self.config.weights)
        self._snapshot = Snapshot.of(parts, contents.state.kind)
        self._generation = contents.state.generation
        self._tuned = None if contents.knobs is None else Tuned.from_json(contents.knobs)
        return True

    def save(self, folder: Folder) -> Path:
        """Write all of the index, as it is now, into a new folder, complete or not at all.

        Raises:
            StoreError: the folder holds something already, the disk refuses, or a file of this
                index is damaged.
        """
        target = folders.plain(folder)
        writer = self._writer
        if self.folder is not None:
            folders.copy(self._catalogue, self.folder, target)
        elif writer is not None:
            with writer.merging, writer.lock:
                writer.flush()
                folders.write_parts(self._catalogue, list(writer.parts), target)
        return target

    def check(self) -> Report:
        """Read every byte and compare all checksums; says what is wrong instead of raising."""
        if self.folder is None:
            return Report(0, len(self), ())
        return check_folder(self.folder)

    def bytes(self) -> dict[str, int]:
        """Bytes by part: postings, list heads, rows, ids, deletion bits, catalogue."""
        return {**sizes(self._now().parts), "catalogue": self._catalogue.bytes()}

    def stats(self) -> dict[str, Any]:
        """Figures about the index now, JSON-able."""
        merger, writer = self._merger, self._writer
        return {**figures(self._now()), "bytes": sum(self.bytes().values()),
                "writable": writer is not None, "tuned": self._tuned is not None,
                "merging": merger is not None and merger.running,
                "trouble": None if writer is None else writer.trouble}

    def ids(self) -> list[Any]:
        """Ids of all documents, in the order of their numbers."""
        found: list[Any] = []
        for part in self._now().parts:
            found += part.living_ids()
        return found

    def __len__(self) -> int:
        return self._now().live

    def __contains__(self, id: object) -> bool:
        snapshot = self._now()
        fits = isinstance(id, str if snapshot.kind == "str" else int)
        return fits and snapshot.locate(id) is not None

    def close(self) -> None:
        """Wait for a merge that runs, close the files, and let another writer in."""
        if self._merger is not None:
            self._merger.stop()
        if self._writer is not None:
            with self._writer.lock:
                self._writer.closed = True
        self._catalogue.close()
        if self._release is not None:
            self._release()

    def __enter__(self) -> SparseIndex:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def _now(self) -> Snapshot:
        if self._writer is None:
            return self._snapshot
        self._writer.searched = time.monotonic()
        return self._writer.snapshot()

    def _located(self, id: Any) -> tuple[Any, int]:
        snapshot = self._now()
        wanted = checked([id], snapshot.kind)[0][0]
        place = snapshot.locate(wanted)
        if place is None:
            raise DataError(f"There is no document with the id {id!r}.")
        return place

    def _writing(self) -> Writer:
        if self._writer is None:
            raise StoreError("The index is open for reading: load it with writable=True.")
        return self._writer

    def _after_write(self) -> None:
        if self._merger is not None:
            self._merger.after_write()
