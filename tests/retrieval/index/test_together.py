"""Writers, readers, merges and threads at the same time."""

from __future__ import annotations

import os
import random
import threading
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from gossamer.core import GossamerError, StoreError
from gossamer.retrieval.index import IndexConfig, SparseIndex
from tests.retrieval.index.model import check_all, random_row, score

CONFIG = IndexConfig(pending_documents=8, merge_segments=2)


def all_at_once(*jobs: Callable[[], None]) -> None:
    """Run jobs in threads, and raise what any of them raised."""
    errors: list[BaseException] = []

    def guarded(job: Callable[[], None]) -> None:
        try:
            job()
        except (AssertionError, GossamerError, LookupError, TypeError, ValueError) as error:
            errors.append(error)

    threads = [threading.Thread(target=guarded, args=(job,)) for job in jobs]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if errors:
        raise errors[0]


def test_the_second_writer_is_refused(tmp_path: Path) -> None:
    with SparseIndex.build([{0: 1.0}], folder=tmp_path / "index"):
        with pytest.raises(StoreError, match="Another writer"):
            SparseIndex.load(tmp_path / "index", writable=True)
        child = os.fork()
        if child == 0:
            try:
                SparseIndex.load(tmp_path / "index", writable=True)
            except StoreError:
                os._exit(3)
            os._exit(0)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 3
        with SparseIndex.load(tmp_path / "index") as reader:
            assert len(reader) == 1
            for change in (lambda: reader.add([{0: 1.0}]), lambda: reader.delete([0]),
                           lambda: reader.update([{0: 1.0}], [0]), reader.merge):
                with pytest.raises(StoreError, match="writable=True"):
                    change()
    SparseIndex.load(tmp_path / "index", writable=True).close()


def test_a_search_sees_one_moment(tmp_path: Path) -> None:
    with SparseIndex.build([{0: 2.0}, {0: 1.0}], folder=tmp_path / "index") as index:
        reader = SparseIndex.load(tmp_path / "index")
        hits = index.search([{0: 1.0}])
        index.delete([0])
        index.add([{0: 8.0}])
        index.merge()
        assert hits.ids == [[0, 1]]
        assert reader.search([{0: 1.0}], exact=True).ids == [[0, 1]]
        assert index.search([{0: 1.0}], exact=True).ids == [[2, 1]]
        assert reader.refresh()
        assert not reader.refresh()
        assert reader.search([{0: 1.0}], exact=True).ids == [[2, 1]]
        reader.close()


def test_readers_while_another_process_writes_and_merges(tmp_path: Path) -> None:
    """Document i has weight (generation) in term 0; a moment shows one generation for all."""
    folder, count = tmp_path / "index", 30
    SparseIndex.build([{0: 1.0, 1 + i: 1.0} for i in range(count)], folder=folder,
                      config=CONFIG).close()
    child = os.fork()
    if child == 0:
        try:
            with SparseIndex.load(folder, writable=True) as index:
                for generation in range(2, 40):
                    index.update([{0: float(generation), 1 + i: 1.0} for i in range(count)],
                                 range(count))
                    if generation % 7 == 0:
                        index.merge()
            os._exit(0)
        finally:
            os._exit(1)
    seen = set()
    reader = SparseIndex.load(folder)
    while True:
        ended, status = os.waitpid(child, os.WNOHANG)
        reader.refresh()
        hits = reader.search([{0: 1.0}], k=count, exact=True)
        assert sorted(hits.ids[0]) == list(range(count))
        assert len(set(hits.scores[0].tolist())) == 1
        seen.add(float(hits.scores[0, 0]))
        if ended:
            break
    assert os.waitstatus_to_exitcode(status) == 0
    reader.refresh()
    assert float(reader.search([{0: 1.0}], exact=True).scores[0, 0]) == 39.0
    assert len(seen) > 2
    reader.close()


@pytest.mark.parametrize("durable", [True, False])
def test_threads_add_delete_and_search(tmp_path: Path, durable: bool) -> None:
    index = SparseIndex.build([], folder=tmp_path / "index" if durable else None, config=CONFIG)
    rows = [random_row(random.Random(i)) for i in range(400)]
    kept: dict[int, set[int]] = {0: set(), 1: set()}
    done = threading.Event()

    def write(part: int) -> None:
        rng = random.Random(part)
        for first in range(part * 200, part * 200 + 200, 5):
            ids = list(range(first, first + 5))
            index.add([rows[i] for i in ids], ids, [str(i) for i in ids])
            kept[part].update(ids)
            gone = rng.sample(sorted(kept[part]), 2)
            assert index.delete(gone) == 2
            kept[part].difference_update(gone)

    def search(seed: int) -> None:
        rng = random.Random(seed)
        while not done.is_set():
            query = random_row(rng)
            hits = index.search([query], k=6, exact=True)
            for one, value in zip(hits.ids[0], hits.scores[0].tolist()):
                assert value == score(query, rows[one])
            index.stats()

    def both() -> None:
        try:
            all_at_once(lambda: write(0), lambda: write(1))
            index.merge()
        finally:
            done.set()

    all_at_once(both, lambda: search(1), lambda: search(2))
    model = {i: (rows[i], str(i)) for i in kept[0] | kept[1]}
    check_all(index, model, random.Random(0), every=True)
    index.close()
    if durable:
        with SparseIndex.load(tmp_path / "index") as loaded:
            check_all(loaded, model, random.Random(0), every=True)
            assert loaded.check().sound


def test_merging_goes_on_by_itself_and_keeps_what_is_deleted_meanwhile(tmp_path: Path) -> None:
    with SparseIndex.build([], folder=tmp_path / "index", config=CONFIG) as index:
        model = {}
        rng = random.Random(1)
        for first in range(0, 400, 8):
            batch = {i: (random_row(rng), None) for i in range(first, first + 8)}
            index.add([row for row, _ in batch.values()], list(batch))
            model.update(batch)
            gone = rng.sample(sorted(model), 3)
            index.delete(gone)
            for one in gone:
                del model[one]
        index.close()
        with SparseIndex.load(tmp_path / "index", writable=True) as again:
            assert again.stats()["segments"] < 12  # 50 without merging
            check_all(again, model, rng, every=True)
            again.merge()
            stats = again.stats()
            assert (stats["segments"], stats["deleted"]) == (1, 0)
            check_all(again, model, rng, every=True)
    assert len(list((tmp_path / "index").glob("*.segment"))) == 1


def test_batches_do_not_depend_on_threads() -> None:
    rng = random.Random(2)
    index = SparseIndex.build([random_row(rng) for _ in range(300)])
    queries = [random_row(rng) for _ in range(50)]
    one, two = (index.search(queries, exact=True, threads=threads) for threads in (1, 2))
    np.testing.assert_array_equal(one.documents, two.documents)
    each = [index.search([query], exact=True).ids[0] for query in queries]
    assert one.ids == each
