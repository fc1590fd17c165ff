"""Each lint on a case that it must pass and on one that it must catch."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from gossamer.core import ConfigError, DataError, Pattern, Support, columns, nm, rows, unstructured
from gossamer.layout import pack
from gossamer.store import SiteRow, Totals, lints
from gossamer.store.conformity import broken, conforms, dead_columns
from gossamer.store.inspection import Other

GOOD = SiteRow(
    name="layers.0.up.weight", kind="linear", layout="bitmask", shape=(8, 16), dtype="bfloat16",
    kept=64, nonzeros=64, bytes=144, dense_bytes=256, packed_bytes=144, dead_rows=0,
    dead_columns=0, conforms=("2:4",), claimed="2:4", broken=None, kernel="avx2",
)


def row(name: str = "layers.0.up.weight", **changes: Any) -> SiteRow:
    """A row that every lint passes, with changes."""
    return dataclasses.replace(GOOD, name=name, **changes)


def block(density: float, index: int) -> SiteRow:
    """A row of 1000 weights in block ``index``."""
    return row(f"layers.{index}.up.weight", shape=(10, 100), nonzeros=round(1000 * density))


class TestMemory:
    def test_density_scope(self) -> None:
        apart = lints.density_scope(Totals(1000, 500, 1400, 900, 0, 0))
        assert apart.verdict == "note"
        assert apart.figures["prunable"] == 0.5
        assert apart.figures["whole"] == 900 / 1400
        assert apart.figures["outside"] == pytest.approx(400 / 1400)
        assert "50.0%" in apart.sentence
        assert "64.3%" in apart.sentence
        together = lints.density_scope(Totals(1000, 500, 1010, 510, 0, 0))
        assert together.verdict == "ok"

    def test_saves_bytes(self) -> None:
        good = lints.saves_bytes([GOOD])
        assert good.verdict == "ok"
        assert good.figures["break_even"] == {"bitmask bfloat16": 0.9375}
        csr = row("layers.1.up.weight", layout="csr", bytes=300)
        bad = lints.saves_bytes([GOOD, csr])
        assert bad.verdict == "warn"
        assert bad.figures["larger_than_dense"] == ["layers.1.up.weight"]
        assert bad.figures["excess_bytes"] == 44
        assert lints.saves_bytes([row(layout="dense", bytes=256)]).verdict == "ok"

    def test_csr_at_sixty_percent_with_wide_columns_is_larger_than_dense(self) -> None:
        weight = torch.zeros(1, 70_000)
        weight[0, :42_000] = 1.0
        packed = pack(weight, layout="csr")
        assert packed.nbytes > weight.nbytes

    @settings(max_examples=30, deadline=None)
    @given(density=st.floats(0.05, 0.95), layout=st.sampled_from(["bitmask", "csr"]),
           dtype=st.sampled_from([torch.float32, torch.bfloat16]))
    def test_break_even_separates_saving_from_losing(
        self, density: float, layout: str, dtype: torch.dtype
    ) -> None:
        weight = torch.zeros(4, 4000, dtype=dtype)
        weight[:, : int(density * 4000)] = 1
        edge = lints.break_even(layout, 8 * dtype.itemsize)
        if abs(density - edge) > 0.01:
            saved = pack(weight, layout=layout).nbytes < weight.nbytes
            assert saved == (density < edge)

    def test_packed_claim(self) -> None:
        assert lints.packed_claim([GOOD]).verdict == "ok"
        masked = row(layout="dense", bytes=256, packed_bytes=144)
        found = lints.packed_claim([GOOD, masked])
        assert found.verdict == "warn"
        assert found.figures == {"masked_sites": 1, "bytes": 256, "bytes_packed": 144}
        full = row(layout="dense", bytes=256, packed_bytes=256)
        assert lints.packed_claim([full]).verdict == "ok"


class TestLabels:
    def test_pattern_claim(self) -> None:
        assert lints.pattern_claim([GOOD]).verdict == "ok"
        assert lints.pattern_claim([row(claimed=None)]).sentence == "No pattern is claimed."
        wrong = lints.pattern_claim([GOOD, row("layers.1.up.weight", broken="keeps 3 in a group")])
        assert wrong.verdict == "fail"
        assert wrong.figures == {"claimed": 2, "broken": {"layers.1.up.weight":
                                                          "keeps 3 in a group"}}

    def test_kept_zeros(self) -> None:
        assert lints.kept_zeros([GOOD]).verdict == "ok"
        found = lints.kept_zeros([GOOD, row("b", nonzeros=60)])
        assert found.verdict == "note"
        assert found.figures == {"zeros_kept": 4, "sites": {"b": 4}}

    def test_effective_weights(self) -> None:
        assert lints.effective_weights({}, {}).verdict == "ok"
        found = lints.effective_weights({"a": 1.0, "b": 0.5}, {"a": 0.25, "b": 0.5})
        assert found.verdict == "warn"
        assert found.figures["differ"] == {"a": (1.0, 0.25)}
        assert lints.effective_weights({"b": 0.5}, {"b": 0.5}).verdict == "note"


class TestStructure:
    def test_dead_units(self) -> None:
        assert lints.dead_units([GOOD]).verdict == "ok"
        found = lints.dead_units([row("a", dead_rows=2), row("b", dead_columns=3)])
        assert found.verdict == "warn"
        assert found.figures == {"dead_rows": {"a": 2}, "dead_columns": {"b": 3}}

    @pytest.mark.parametrize(("densities", "verdict"), [
        ([0.05, 0.05, 0.05], "warn"), ([0.2, 0.05, 0.02], "ok"), ([0.5, 0.5, 0.5], "ok"),
        ([0.05, 0.05], "ok"), ([0.1, 0.1, 0.1], "warn"), ([0.0, 0.0, 0.0], "ok"),
    ])
    def test_allocation(self, densities: list[float], verdict: str) -> None:
        found = lints.allocation([block(d, i) for i, d in enumerate(densities)])
        assert found.verdict == verdict
        assert found.figures["density"] == pytest.approx(sum(densities) / len(densities))

    def test_first_last(self) -> None:
        even = lints.first_last([block(0.5, i) for i in range(4)], [])
        assert even.verdict == "ok"
        ends = lints.first_last([block(d, i) for i, d in enumerate([1.0, 0.5, 0.5, 0.5])], [])
        assert ends.verdict == "warn"
        assert ends.figures["first"] == 1.0
        assert ends.figures["median_between"] == 0.5
        embedding = Other("embed.weight", (10, 10), 100, 400)
        outside = lints.first_last([block(0.5, i) for i in range(4)], [embedding])
        assert outside.verdict == "note"
        assert "embed.weight" in outside.sentence
        assert lints.first_last([block(0.5, 0)], []).verdict == "ok"
        assert lints.first_last([], []).verdict == "ok"


class TestSpeed:
    def test_kernels(self) -> None:
        assert lints.kernels([GOOD]).verdict == "ok"
        found = lints.kernels([GOOD, row("b", kernel="reference"), row("c", kernel="dense")])
        assert found.verdict == "warn"
        assert found.figures["without_kernel"] == 2
        assert found.figures["kernels"] == ["avx2"]
        full = row(kernel="dense", nonzeros=128)
        assert lints.kernels([full]).verdict == "ok"


class TestMethod:
    @pytest.mark.parametrize(("nonzeros", "changes", "name"), [
        ([100, 60, 20], 2, "dense-to-sparse"), ([20, 20, 20], 0, "static sparse-to-sparse"),
        ([20, 20, 20], 5, "dynamic sparse-to-sparse"), ([100, 100], 0, "dense"),
        ([20, 30, 20], 2, "dense-to-sparse"),
    ])
    def test_route(self, nonzeros: list[int], changes: int, name: str) -> None:
        assert lints.route(nonzeros, 100, changes) == name
        assert lints.method_label(name, nonzeros, 100, changes).verdict == "ok"

    def test_a_label_that_the_run_contradicts(self) -> None:
        found = lints.method_label("static sparse-to-sparse", [100, 20], 100, 1)
        assert found.verdict == "fail"
        assert found.figures["found"] == "dense-to-sparse"
        dense = lints.method_label("dynamic sparse-to-sparse", [20, 20], 100, 3, True)
        assert dense.verdict == "note"

    def test_bad_input(self) -> None:
        with pytest.raises(ConfigError, match="did you mean 'dense-to-sparse'"):
            lints.method_label("dense-to-sparce", [1], 2, 0)
        for counts in ([], [101], [-1]):
            with pytest.raises(ConfigError):
                lints.route(counts, 100, 0)


class TestComparison:
    def run(self, system: str = "a", seed: int = 0, **changes: Any) -> dict[str, Any]:
        return {"system": system, "seed": seed, "config": {"density": 0.5},
                "calibration": {"tokens": 2048}, **changes}

    def test_equal_budgets(self) -> None:
        runs = [self.run(s, seed) for s in "ab" for seed in (0, 1)]
        assert lints.fair_comparison(runs).verdict == "ok"
        lints.require_fair(runs)

    def test_a_single_seed(self) -> None:
        found = lints.fair_comparison([self.run("a", 0), self.run("a", 1), self.run("b", 0)])
        assert found.verdict == "warn"
        assert found.figures["single_seed"] == ["b"]

    @pytest.mark.parametrize("changes", [
        {"config": {"density": 0.6}}, {"calibration": {"tokens": 4096}}, {"epochs": 3},
    ])
    def test_differences_are_listed(self, changes: dict[str, Any]) -> None:
        runs = [self.run("a"), self.run("b", **changes)]
        found = lints.fair_comparison(runs)
        assert found.verdict == "fail"
        key = "epochs" if "epochs" in changes else next(iter(next(iter(changes.values()))))
        assert list(found.figures["differ"]) == [key]
        with pytest.raises(lints.UnfairComparisonError, match=key):
            lints.require_fair(runs)

    def test_points(self) -> None:
        from gossamer.measure import Point
        points = [
            Point({"id": name, "density": 0.5}, seed=seed, data={"text": "wikitext"})
            for name in "ab" for seed in (0, 1)
        ]
        assert lints.fair_comparison(points).verdict == "ok"
        other = Point({"id": "c", "density": 0.5}, data={"text": "novels"})
        assert list(lints.fair_comparison([*points, other]).figures["differ"]) == ["text"]

    def test_bad_input(self) -> None:
        with pytest.raises(DataError, match="at least two"):
            lints.fair_comparison([self.run()])
        with pytest.raises(DataError, match="not int"):
            lints.fair_comparison([1, 2])


class TestConformity:
    """Patterns read from packed bits against the plain definition."""

    @settings(max_examples=60, deadline=None)
    @given(height=st.integers(1, 6), width=st.integers(1, 24), density=st.floats(0, 1),
           seed=st.integers(0, 999))
    def test_against_the_definition(self, height: int, width: int, density: float,
                                    seed: int) -> None:
        generator = torch.Generator().manual_seed(seed)
        mask = torch.rand(height, width, generator=generator) < density
        held = conforms(Support.of(mask))
        lists = mask.int().tolist()
        full = bool(mask.all())
        for n, m in ((1, 4), (2, 4), (4, 8)):
            follows = width % m == 0 and all(
                sum(line[i : i + m]) <= n for line in lists for i in range(0, width, m))
            assert (f"{n}:{m}" in held) == (follows and not full)
        equal = len({sum(line) for line in lists}) == 1
        assert ("rows" in held) == (equal and not full)
        assert dead_columns(Support.of(mask)) == sum(not any(col) for col in zip(*lists))

    @pytest.mark.parametrize(("pattern", "hits"), [
        (unstructured(), []), (rows(), [(0, 0)]), (nm(1, 4), [(0, 1)]), (columns(4), [(1, 5)]),
        (Pattern(unit=(2, 2)), [(0, 0)]),
    ])
    def test_broken(self, pattern: Pattern, hits: list[tuple[int, int]]) -> None:
        mask = torch.zeros(2, 8, dtype=torch.bool)
        if pattern.unit == (1, 1):
            mask[:, ::4] = True
        assert broken(Support.of(mask), pattern) is None
        for place in hits:
            mask[place] = ~mask[place]
        assert (broken(Support.of(mask), pattern) is not None) == bool(hits)

    def test_large_matrices_are_looked_at_in_pieces(self) -> None:
        mask = torch.zeros(600, 8192, dtype=torch.bool)
        mask[:, ::2] = True
        assert conforms(Support.of(mask)) == ("2:4", "4:8", "rows")
        mask[599, 1] = True
        assert conforms(Support.of(mask)) == ()
