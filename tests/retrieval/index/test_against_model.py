"""Whatever is done to an index in whatever order, it answers as a dictionary would."""

from __future__ import annotations

import random
import shutil
import tempfile
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from gossamer.core import DataError, StoreError
from gossamer.retrieval.index import IndexConfig, SparseIndex
from tests.retrieval.index.model import Model, check_all, check_hits, random_row

SMALL = IndexConfig(pending_documents=4, segment_documents=16, merge_segments=2, background=False)


class Living(RuleBasedStateMachine):
    """An index in a folder, a reader of it, and a dictionary."""

    @initialize(strings=st.booleans(), background=st.booleans(), seed=st.integers(0, 2**31))
    def begin(self, strings: bool, background: bool, seed: int) -> None:
        self.rng = random.Random(seed)
        self.root = Path(tempfile.mkdtemp())
        self.strings, self.copies = strings, 0
        config = IndexConfig(**{**vars(SMALL), "background": background})
        self.model: Model = {}
        self.index = SparseIndex.build([], ids=[], folder=self.root / "index", config=config)
        self.reader = SparseIndex.load(self.root / "index")
        self.seen: Model = {}

    def name(self, number: int) -> Any:
        return f"d{number}ä" if self.strings else number - 20

    @rule(numbers=st.lists(st.integers(0, 60), max_size=7, unique=True), payload=st.booleans())
    def add(self, numbers: list[int], payload: bool) -> None:
        ids = [self.name(number) for number in numbers]
        rows = [random_row(self.rng) for _ in ids]
        payloads: list[Any] = [{"of": one} for one in ids] if payload else [None] * len(ids)
        if any(one in self.model for one in ids):
            with pytest.raises(DataError, match="there already"):
                self.index.add(rows, ids)
            return
        assert self.index.add(rows, ids, payloads if payload else None) == ids
        self.model.update({one: (row, value) for one, row, value in zip(ids, rows, payloads)})

    @rule(count=st.integers(1, 5))
    def add_numbered(self, count: int) -> None:
        rows = [random_row(self.rng) for _ in range(count)]
        if self.strings:
            if self.model:
                with pytest.raises(DataError, match="strings"):
                    self.index.add(rows)
            return
        ids = self.index.add(rows)
        assert not set(ids) & set(self.model)
        self.model.update({one: (row, None) for one, row in zip(ids, rows)})

    @rule(share=st.floats(0, 1), payload=st.booleans())
    def update(self, share: float, payload: bool) -> None:
        ids = self.rng.sample(sorted(self.model), round(share * len(self.model)))
        rows = [random_row(self.rng) for _ in ids]
        payloads = [self.rng.choice([None, f"of {one}"]) for one in ids] if payload else None
        self.index.update(rows, ids, payloads)
        for i, (one, row) in enumerate(zip(ids, rows)):
            self.model[one] = (row, payloads[i] if payloads else self.model[one][1])

    @rule(numbers=st.lists(st.integers(0, 60), max_size=9))
    def delete(self, numbers: list[int]) -> None:
        ids = [self.name(number) for number in numbers]
        gone = {one for one in ids if one in self.model}
        assert self.index.delete(ids) == len(gone)
        for one in gone:
            del self.model[one]

    @rule()
    def merge(self) -> None:
        self.index.merge()
        assert self.index.stats()["waiting"] == 0

    @rule()
    def reload(self) -> None:
        self.index.close()
        self.index = SparseIndex.load(self.root / "index", writable=True)

    @rule()
    def refresh(self) -> None:
        self.reader.refresh()
        self.seen = dict(self.model)

    @rule()
    def save(self) -> None:
        self.copies += 1
        with SparseIndex.load(self.index.save(self.root / f"copy{self.copies}")) as copied:
            check_all(copied, self.model, self.rng)
            assert copied.check().sound

    @rule(share=st.floats(0, 1))
    def search_some(self, share: float) -> None:
        allowed = self.rng.sample(sorted(self.model), round(share * len(self.model)))
        query = random_row(self.rng)
        hits = self.index.search([query], k=4, exact=True, filter=allowed)
        check_hits(hits, query, {one: self.model[one] for one in allowed}, 4)

    @invariant()
    def same(self) -> None:
        if hasattr(self, "index"):
            check_all(self.index, self.model, self.rng)
            query = random_row(self.rng)
            check_hits(self.reader.search([query], k=5, exact=True), query, self.seen, 5)

    def teardown(self) -> None:
        if hasattr(self, "index"):
            self.index.close()
            assert self.index.check().sound
            self.reader.close()
            shutil.rmtree(self.root)


TestLiving = Living.TestCase
TestLiving.settings = settings(
    max_examples=12, stateful_step_count=25, deadline=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large])


def test_in_memory_it_is_the_same(tmp_path: Path) -> None:
    rng = random.Random(3)
    index = SparseIndex.build([], config=SMALL)
    model: Model = {}
    for step in range(60):
        rows = [random_row(rng) for _ in range(rng.randint(1, 6))]
        model.update({one: (row, step) for one, row in
                      zip(index.add(rows, payloads=[step] * len(rows)), rows)})
        gone = rng.sample(sorted(model), min(len(model), rng.randint(0, 4)))
        assert index.delete(gone) == len(gone)
        for one in gone:
            del model[one]
        if step % 20 == 7:
            index.merge()
        check_all(index, model, rng)
    with SparseIndex.load(index.save(tmp_path / "saved"), writable=True) as saved:
        check_all(saved, model, rng)
        assert saved.check().sound
        with pytest.raises(StoreError, match="already holds"):
            index.save(tmp_path / "saved")
