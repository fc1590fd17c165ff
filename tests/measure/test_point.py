"""Points survive JSON, refuse what is no point, and the Pareto line equals brute force."""

from __future__ import annotations

import json
import math
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gossamer.core import DataError, StoreError
from gossamer.measure import Frontier, Point, load_points, save_points

_number = st.floats(allow_nan=False, allow_infinity=False)
_points = st.builds(
    Point,
    system=st.fixed_dictionaries({"id": st.text(), "label": st.text(), "density": _number}),
    quality=st.dictionaries(st.text(), _number, max_size=3),
    cost=st.dictionaries(
        st.text(), st.one_of(_number, st.lists(_number).map(tuple)), max_size=3),
    env=st.dictionaries(st.text(), st.none() | st.text() | st.integers(), max_size=3),
    kernels_used=st.lists(st.text(), max_size=2).map(tuple),
    seed=st.integers(0, 2**63),
    data=st.dictionaries(st.text(), st.text(), max_size=2),
    fallbacks=st.dictionaries(st.text(), st.integers(1, 10**9), max_size=2),
)


@given(_points)
def test_json_round_trip(point: Point) -> None:
    text = json.dumps(point.to_json(), allow_nan=False)
    assert Point.from_json(json.loads(text)) == point


def test_file_round_trip(tmp_path: Path) -> None:
    points = [Point({"id": "a"}, {"perplexity": 2.0}, {"seconds_per_token": (1.0, 2.0)}),
              Point({"id": "b"})]
    save_points(tmp_path / "points.json", points)
    assert load_points(tmp_path / "points.json") == points
    assert [p.name for p in tmp_path.iterdir()] == ["points.json"]
    frontier = Frontier(points)
    frontier.save(tmp_path / "again.json")
    assert Frontier.load(tmp_path / "again.json").points == tuple(points)


@pytest.mark.parametrize(("text", "message"), [
    ("{", "not valid JSON"),
    ('{"kind": "other"}', "no gossamer points"),
    ('{"kind": "gossamer.points", "schema": 99}', "newer gossamer"),
    ('{"kind": "gossamer.points", "schema": 1, "points": [3]}', "must be an object"),
    ('{"kind": "gossamer.points", "schema": 1, "points": [{"system": {}, "env": 1}]}', "env"),
    ('{"kind": "gossamer.points", "schema": 1, "points": [{"system": {}, "cost": {"x": "y"}}]}',
     "x must be a number"),
])
def test_bad_files_are_refused(tmp_path: Path, text: str, message: str) -> None:
    (tmp_path / "points.json").write_text(text)
    with pytest.raises(StoreError, match=message):
        load_points(tmp_path / "points.json")


def test_missing_file(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match="Cannot read"):
        load_points(tmp_path / "none.json")


def test_nan_is_refused_and_old_file_stays(tmp_path: Path) -> None:
    path = tmp_path / "points.json"
    save_points(path, [Point({"id": "good"})])
    with pytest.raises(DataError, match="'bad'"):
        save_points(path, [Point({"id": "bad"}, {"perplexity": math.nan})])
    assert load_points(path)[0].id == "good"


def test_value_is_the_median_of_repeats() -> None:
    point = Point({"id": "p"}, {"q": math.inf}, {"t": (3.0, 1.0, 2.0), "e": ()})
    assert point.value("cost.t") == 2.0
    assert point.value("cost.e") is None
    assert point.value("quality.q") is None
    assert point.value("cost.unknown") is None
    assert point.label == "p"
    with pytest.raises(DataError, match=r"cost\.NAME"):
        point.value("t")


_grid = st.integers(0, 6)


@given(st.lists(st.tuples(_grid, _grid), max_size=30))
def test_pareto_equals_brute_force(pairs: list[tuple[int, int]]) -> None:
    points = [Point({"id": i}, {"perplexity": float(y)}, {"disk_bytes": float(x)})
              for i, (x, y) in enumerate(pairs)]
    expected = {
        i for i, (x, y) in enumerate(pairs)
        if not any(a <= x and b <= y and (a < x or b < y) for a, b in pairs)
    }
    line = Frontier(points).pareto()
    assert {int(p.id) for p in line} == expected
    xs = [p.value("cost.disk_bytes") for p in line]
    ys = [p.value("quality.perplexity") for p in line]
    assert xs == sorted(xs)
    assert ys == sorted(ys, reverse=True)


def test_pareto_leaves_out_what_lacks_a_figure() -> None:
    whole = Point({"id": "a"}, {"perplexity": 3.0}, {"disk_bytes": 5.0})
    timeless = Point({"id": "b"}, {"perplexity": 1.0})
    assert Frontier([whole, timeless]).pareto() == [whole]


def test_points_written_before_fallbacks_were_counted_are_read() -> None:
    old = Point({"id": "a"}).to_json()
    del old["fallbacks"]
    assert Point.from_json(old).fallbacks == {}
    with pytest.raises(StoreError, match="csr: why must be a number"):
        Point.from_json({**old, "fallbacks": {"csr: why": "many"}})
