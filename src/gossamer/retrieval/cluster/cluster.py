"""ClusterIndex: one index in shards that answer together, in a deadline or in part."""

from __future__ import annotations

import json
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from gossamer.core import ConfigError, DataError, StoreError
from gossamer.core.atomic import write_text
from gossamer.layout.rows import as_rows
from gossamer.retrieval.cluster.routing import Answer, chosen, merged, routed, shard_of
from gossamer.retrieval.cluster.workers import LostError, Workers
from gossamer.retrieval.index import IndexConfig, SparseIndex
from gossamer.retrieval.index.identifiers import checked

_NAME = "cluster.json"
_FORMAT = 1


@dataclass(frozen=True, eq=False)
class ClusterHits:
    """Answers of all shards that answered in time.

    Args:
        ids: a list for each query, the best first.
        scores: as many for each query.
        missing: shards whose documents could not be found.
    """

    ids: list[list[Any]]
    scores: list[list[float]]
    missing: tuple[int, ...]

    @property
    def partial(self) -> bool:
        """Whether a shard did not answer."""
        return bool(self.missing)


class ClusterIndex:
    """An index whose documents are spread over shards by their ids.

    Each shard has a folder of its own, one worker that writes and any number that only read. A
    worker that is lost is started anew from the folder, which holds every acknowledged change.

    Args:
        folder: that `build` made.
        workers: `OnRay()`, or `Threads()` for a single process.
        replicas: further workers of each shard that answer searches.

    Raises:
        StoreError: there is no cluster's index in the folder.
        ConfigError: replicas is negative.
    """

    def __init__(self, folder: str | Path, workers: Workers, replicas: int = 0) -> None:
        if replicas < 0:
            raise ConfigError(f"replicas is {replicas}; it must be at least 0.")
        self.folder, self.shards = Path(folder), _read(Path(folder))
        self._workers, self._turn = workers, 0
        self._held = [[workers.start(str(_place(self.folder, shard)), replica == 0)
                       for replica in range(replicas + 1)] for shard in range(self.shards)]

    @classmethod
    def build(
        cls, rows: Any, ids: Iterable[Any] | None, folder: str | Path, workers: Workers,
        shards: int = 2, replicas: int = 0,
    ) -> ClusterIndex:
        """Spread documents over new shards in a new folder, and open it.

        Raises:
            ConfigError: shards is not positive.
            DataError: rows or ids that cannot be kept.
            StoreError: the folder cannot be written.
        """
        if shards < 1:
            raise ConfigError(f"shards is {shards}; it must be at least 1.")
        rows = as_rows(rows)
        names, _ = checked(range(rows.count) if ids is None else ids, None)
        if len(names) != rows.count:
            raise DataError(f"There are {len(names)} ids for {rows.count} documents.")
        target = Path(folder)
        target.mkdir(parents=True, exist_ok=False)
        for shard, places in enumerate(routed(names, shards)):
            SparseIndex.build(
                chosen(rows, places), [names[i] for i in places.tolist()],
                folder=_place(target, shard), config=IndexConfig()).close()
        write_text(target / _NAME, json.dumps({"format": _FORMAT, "shards": shards}) + "\n")
        return cls(target, workers, replicas)

    def search(
        self, queries: Any, k: int = 10, recall: float = 0.95, *, exact: bool = False,
        seconds: float | None = None,
    ) -> ClusterHits:
        """The k best documents of all shards for each query.

        Args:
            queries: whatever `gossamer.layout.rows.as_rows` reads.
            k: at least 1.
            recall: that each shard aims at.
            exact: answer as a scan would.
            seconds: deadline; shards that are late are left out, and named in ``missing``. None
                waits for all.

        Raises:
            ConfigError: k or recall is out of range.
            DataError: a query that is no sparse vector.
        """
        rows = as_rows(queries)
        if k < 1:
            raise ConfigError(f"k is {k}; it must be at least 1.")
        found = self._gathered("search", (rows, k, recall, exact), seconds)
        best = merged([found[shard] for shard in sorted(found)], rows.count, k)
        missing = tuple(shard for shard in range(self.shards) if shard not in found)
        return ClusterHits(best.ids, best.scores, missing)

    def add(self, rows: Any, ids: Iterable[Any], payloads: Sequence[Any] | None = None
            ) -> list[Any]:
        """Add documents, each to the shard of its id; durable on return.

        Shards keep their parts on their own: where one refuses, the others have kept theirs.

        Raises:
            DataError: an id is there already, or rows or ids cannot be kept.
            StoreError: a shard cannot write.
        """
        rows = as_rows(rows)
        names, _ = checked(ids, None)
        if len(names) != rows.count:
            raise DataError(f"There are {len(names)} ids for {rows.count} documents.")
        given: dict[int, tuple[Any, ...]] = {}
        for shard, places in enumerate(routed(names, self.shards)):
            if len(places):
                some = places.tolist()
                kept = None if payloads is None else [payloads[i] for i in some]
                given[shard] = (chosen(rows, places), [names[i] for i in some], kept)
        self._written("add", given)
        return names

    def delete(self, ids: Iterable[Any]) -> int:
        """Delete documents; how many there were.

        Raises:
            DataError: ids of another kind than those of the index.
            StoreError: a shard cannot write.
        """
        names, _ = checked(ids, None)
        given = {shard: ([names[i] for i in places.tolist()],)
                 for shard, places in enumerate(routed(names, self.shards)) if len(places)}
        return sum(self._written("delete", given))

    def payload(self, id: Any) -> Any:
        """What is kept beside a document, or None."""
        shard = shard_of(id, self.shards)
        (found,) = self._written("payloads", {shard: ([id],)})
        return found[0]

    def stats(self) -> list[dict[str, Any]]:
        """Figures of each shard."""
        return self._written("stats", dict.fromkeys(range(self.shards), ()))

    def __len__(self) -> int:
        return sum(int(stats["documents"]) for stats in self.stats())

    def close(self) -> None:
        """End all workers, the writers last."""
        for held in self._held:
            for worker in reversed(held):
                self._workers.stop(worker)

    def _gathered(
        self, method: str, given: tuple[Any, ...], seconds: float | None,
    ) -> dict[int, Answer]:
        """Answers by shard; a lost worker is replaced and asked again while there is time."""
        deadline = None if seconds is None else time.monotonic() + seconds
        self._turn += 1
        waiting: dict[Any, tuple[int, int]] = {}
        for shard, held in enumerate(self._held):
            replica = self._turn % len(held)
            waiting[self._workers.ask(held[replica], method, *given)] = (shard, replica)
        found: dict[int, Answer] = {}
        again: set[int] = set()
        while waiting:
            left = None if deadline is None else max(0.0, deadline - time.monotonic())
            done = self._workers.wait(list(waiting), left)
            if not done:
                break
            for ticket in done:
                shard, replica = waiting.pop(ticket)
                try:
                    found[shard] = self._workers.result(ticket)
                except LostError:
                    if shard not in again:
                        again.add(shard)
                        worker = self._replaced(shard, replica)
                        waiting[self._workers.ask(worker, method, *given)] = (shard, replica)
        return found

    def _written(self, method: str, given: dict[int, tuple[Any, ...]]) -> list[Any]:
        """What the writers of some shards answer; a lost one is replaced, and asked once more."""
        tickets = {shard: self._workers.ask(self._held[shard][0], method, *some)
                   for shard, some in given.items()}
        results = []
        for shard, ticket in tickets.items():
            try:
                results.append(self._workers.result(ticket))
            except LostError:
                self._replaced(shard, 0)
                if method == "add":
                    # It may have been lost before the change or after it.
                    raise StoreError(
                        f"The writer of shard {shard} was lost while it added documents, and was "
                        "started anew: look whether they are there, and add those that are not."
                    ) from None
                again = self._workers.ask(self._held[shard][0], method, *given[shard])
                try:
                    results.append(self._workers.result(again))
                except LostError as error:
                    raise StoreError(
                        f"Shard {shard} cannot be opened again from its folder.") from error
        return results

    def _replaced(self, shard: int, replica: int) -> Any:
        worker = self._workers.start(str(_place(self.folder, shard)), replica == 0)
        self._held[shard][replica] = worker
        return worker


def _place(folder: Path, shard: int) -> Path:
    return folder / f"shard-{shard:04d}"


def _read(folder: Path) -> int:
    path = folder / _NAME
    if not path.is_file():
        raise StoreError(f"There is no index of a cluster in {folder}.")
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
        version, shards = int(found["format"]), int(found["shards"])
    except (ValueError, KeyError, TypeError) as error:
        raise StoreError(f"{path} is damaged.") from error
    if version != _FORMAT:
        raise StoreError(f"{path} is of version {version}; this gossamer knows {_FORMAT}.")
    return shards
