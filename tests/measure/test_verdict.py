"""Every kind of verdict, from made-up points."""

from __future__ import annotations

import dataclasses

import pytest

from gossamer.core import ConfigError, DataError
from gossamer.measure import Interval, Point, speedup, verdict
from gossamer.measure.verdict import dominates

STEADY = (0.98, 1.0, 1.0, 1.01, 1.02, 1.0, 0.99)
ENV = {"cpu": "X", "threads": 2, "session": "s"}


def made(
    name: str, *, ppl: float = 20.0, size: float = 100.0, ms: float | None = 50.0,
    noise: tuple[float, ...] = STEADY,
) -> Point:
    cost: dict[str, float | tuple[float, ...]] = {"disk_bytes": size}
    if ms is not None:
        cost["seconds_per_token"] = tuple(ms / 1000 * n for n in noise)
    return Point({"id": name, "label": name}, {"perplexity": ppl}, cost, ENV)


DENSE = made("dense")


def test_pays_in_bytes_and_in_time() -> None:
    found = verdict(made("p", ppl=22, size=60, ms=25), DENSE)
    assert found.paid
    assert found.words == (
        "Pays in bytes and in time: 0.60x the bytes and 2.00x faster (2.00 to 2.00). "
        "Perplexity 22.0 against 20.0 (1.10x).")


def test_pays_in_bytes_not_in_time() -> None:
    found = verdict(made("p", ppl=22, size=60), DENSE)
    assert found.paid
    assert found.words.startswith("Pays in bytes, not in time: 0.60x the bytes and no difference")
    assert "faster" not in found.words


def test_pays_in_time_alone() -> None:
    found = verdict(made("p", size=100, ms=30), DENSE)
    assert found.paid
    assert found.words.startswith("Pays in time, not in bytes")


def test_smaller_but_slower_is_a_trade() -> None:
    found = verdict(made("p", size=60, ms=100), DENSE)
    assert not found.paid
    assert found.words.startswith(
        "A trade, not a gain: 0.60x the bytes and 2.00x slower (2.00 to 2.00).")


def test_faster_but_bigger_is_a_trade() -> None:
    found = verdict(made("p", size=150, ms=25), DENSE)
    assert not found.paid
    assert found.words.startswith("A trade, not a gain: 1.50x the bytes and 2.00x faster")


def test_neither_smaller_nor_faster() -> None:
    found = verdict(made("p", size=99, ms=50), DENSE)
    assert not found.paid
    assert found.words.startswith("Does not pay: 0.99x the bytes and no difference in time")


def test_quality_beyond_the_limit_does_not_pay() -> None:
    found = verdict(made("p", ppl=379, size=60, ms=25), DENSE)
    assert not found.paid
    assert found.gains
    assert found.quality_ratio == pytest.approx(18.95)
    assert found.words.startswith("Does not pay: 0.60x the bytes and 2.00x faster")
    assert "Perplexity 379 against 20.0 (18.95x), more than the 1.25x" in found.words
    assert verdict(made("p", ppl=379, size=60, ms=25), DENSE, limit=20).paid
    assert verdict(made("p", ppl=25, size=60), DENSE).paid
    assert not verdict(made("p", ppl=25.1, size=60), DENSE).paid
    assert not verdict(made("p", ppl=20, size=60, ms=100), DENSE).gains


def test_noise_is_no_speed() -> None:
    shaky = (0.5, 1.5, 0.7, 1.2, 0.6, 1.1, 0.9)
    found = verdict(made("p", size=60, ms=45, noise=shaky), DENSE)
    assert found.speedup is not None
    assert found.speedup.low < 1 < found.speedup.high
    assert "faster" not in found.words
    assert "slower" not in found.words


def test_too_few_repeats_claim_nothing() -> None:
    found = verdict(made("p", size=60, ms=25, noise=(1.0, 1.0, 1.0)), DENSE)
    assert found.speedup is None
    assert "fewer than 5 repeats" in found.words
    assert "faster" not in found.words


def test_other_machine_is_not_compared() -> None:
    other = dataclasses.replace(made("p", size=60, ms=25), env={**ENV, "cpu": "Y"})
    found = verdict(other, DENSE)
    assert found.paid
    assert found.words.startswith("Pays in bytes: 0.60x the bytes. Time was not compared: the two")


def test_unmeasured_time_is_not_compared() -> None:
    found = verdict(made("p", size=60, ms=None), DENSE)
    assert "it was not measured for both" in found.words


def test_unmeasured_quality_claims_nothing() -> None:
    blind = dataclasses.replace(made("p", size=60, ms=25), quality={})
    found = verdict(blind, DENSE)
    assert not found.paid
    assert "Quality was not measured" in found.words


def test_nothing_measured() -> None:
    found = verdict(Point({"id": "p"}), Point({"id": "d"}))
    assert not found.paid
    assert "no cost was measured" in found.words


def test_the_best_of_several_baselines_counts_in_each_figure() -> None:
    wide = made("fp32", ppl=20, size=200, ms=40)
    narrow = made("bf16", ppl=21, size=100, ms=80)
    found = verdict(made("p", ppl=30, size=60, ms=40), [wide, narrow])
    assert found.bytes_ratio == pytest.approx(0.6)
    assert found.quality_ratio == pytest.approx(1.5)
    assert found.speedup is not None
    assert found.speedup.mid == pytest.approx(1.0)


def test_beaten_by_another_point() -> None:
    point, better = made("p", ppl=30, size=60, ms=25), made("better", ppl=25, size=60, ms=25)
    found = verdict(point, DENSE, rivals=[point, better])
    assert found.beaten_by == "better"
    assert found.words.endswith("better is at least as good in every figure and better in one.")
    assert verdict(better, DENSE, rivals=[point, better]).beaten_by is None


def test_dominance_needs_every_figure() -> None:
    point = made("p", ppl=30, size=60, ms=25)
    assert not dominates(made("r", ppl=25, size=61, ms=25), point)
    assert not dominates(made("r", ppl=25, size=60, ms=50), point)
    assert dominates(made("r", ppl=30, size=60, ms=20), point)
    assert not dominates(made("r", ppl=30, size=60, ms=25), point)
    assert not dominates(made("r", ppl=25, size=60, ms=None), point)


def test_speedup_pairs_rounds_of_one_session() -> None:
    slow_rounds = (1.0, 5.0, 1.0, 3.0, 1.0)
    a, b = made("a", ms=10, noise=slow_rounds), made("b", ms=20, noise=slow_rounds)
    found = speedup(a, b)
    assert isinstance(found, Interval)
    assert (found.low, found.mid, found.high) == pytest.approx((2, 2, 2))
    apart = speedup(a, dataclasses.replace(b, env={**ENV, "session": "t"}))
    assert isinstance(apart, Interval)
    assert apart.low == pytest.approx(20 / 50)
    assert apart.high == pytest.approx(100 / 10)


def test_bad_input() -> None:
    with pytest.raises(ConfigError, match="at least one baseline"):
        verdict(DENSE, [])
    with pytest.raises(ConfigError, match="limit"):
        verdict(DENSE, DENSE, limit=0.5)
    with pytest.raises(DataError, match="not positive"):
        verdict(made("p", ms=0), DENSE)
