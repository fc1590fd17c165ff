"""The evidence of S4 fails where its model or its layout is broken."""

from __future__ import annotations

import pytest
import torch

from gossamer.evidence import digits, products
from gossamer.evidence.hardware import s4
from gossamer.evidence.language import Verdicts
from gossamer.layout import unpack
from gossamer.measure.hardware import roofs


def test_the_layout_is_exact() -> None:
    verdicts = Verdicts()
    figures = s4.exactness(0, verdicts)
    assert verdicts.holds, verdicts.because
    assert figures["predicted bytes a weight, R = 16, 8 bits"] == 13 / 128


def test_a_weight_that_is_lost_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(s4, "unpack", lambda packed: unpack(packed).roll(1, 0))
    verdicts = Verdicts()
    s4.exactness(0, verdicts)
    assert not verdicts.holds


def test_an_index_without_cost_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(s4, "bits_a_weight", lambda rate, bits: bits / rate)
    verdicts = Verdicts()
    s4.exactness(0, verdicts)
    assert not verdicts.holds


def test_a_model_that_speeds_up_everything_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    plain = roofs._slowest

    def wrong(op, device, kept, dtype, load):
        seconds, bound, how = plain(op, device, kept, dtype, load)
        return (seconds / kept.speed**2, bound, how)

    monkeypatch.setattr(roofs, "_slowest", wrong)
    verdicts = Verdicts()
    s4.rooflines(verdicts)
    assert not verdicts.holds
    assert "BERT-large at R = 8" in verdicts.because


def test_products_are_timed_in_every_layout() -> None:
    times = products.time_products((64, 256), 8, 0)
    assert set(times.seconds) == {"dense", "nm", "condensed"}
    assert times.shares["nm"] < times.shares["condensed"] < 1
    assert products.quickest(times) in ("nm", "condensed")


def test_nets_of_equal_predicted_throughput(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("sklearn")
    torch.set_num_threads(1)
    monkeypatch.setattr(digits, "_STEPS", 60)
    found = digits.trade_off(0, runs=1)
    assert 1 <= found["predicted throughput, wide over narrow"] < 1.1
    assert found["narrow width"] < found["wide width"]
    assert found["wide sparse, %"] > 50
