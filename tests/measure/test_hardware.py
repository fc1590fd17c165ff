"""Rooflines against closed forms of small cases and of networks that everybody knows."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from gossamer.core import (
    ConfigError,
    DataError,
    PatternError,
    Support,
    UnsupportedError,
    nm,
    select,
)
from gossamer.measure.hardware import (
    DEVICES,
    Device,
    bits_a_weight,
    by_rate,
    cpu,
    get_device,
    load_balance,
    overtaking_rate,
    predict,
    random_balance,
    rate_of,
)
from gossamer.measure.hardware.calibrate import calibrate
from gossamer.measure.hardware.kernels import Costs, Kernel, Sample, from_samples
from gossamer.measure.operations import Op, Work, operations
from tests import zoo

BIG = 10**12
WEIGHT = Op("w", "linear", BIG, 10**6, sparsifiable=True, shape=(1000, 1024))
KEEPS = Op("a", "attention", BIG // 10)
S4 = DEVICES["s4"]


def bert(width: int, depth: int) -> Work:
    """BERT's encoder on the meta device at 128 tokens."""
    from transformers import BertConfig, BertModel
    config = BertConfig(hidden_size=width, num_hidden_layers=depth, intermediate_size=4 * width,
                        num_attention_heads=width // 64)
    with torch.device("meta"):
        return operations(BertModel(config, add_pooling_layer=False), 128)


@pytest.fixture(scope="module")
def large() -> Work:
    return bert(1024, 24)


@pytest.fixture(scope="module")
def base() -> Work:
    return bert(768, 12)


def test_macs_of_known_networks(base: Work, large: Work) -> None:
    assert base.macs("linear") / 128 == pytest.approx(12 * 12 * 768**2)
    assert base.macs("attention") / 128 == pytest.approx(12 * 2 * 128 * 768)
    assert large.macs("linear") / 128 == pytest.approx(302e6, rel=0.01)
    assert large.macs("attention") / 128 == pytest.approx(6.3e6, rel=0.01)


def test_arithmetic_alone_follows_amdahl(large: Work) -> None:
    free = Device("x", "X", "made up", True, {"int8": 1e12}, 1e30, 1e12, "balanced", 1e30,
                  vector_share=1e9)
    found = by_rate(large, free, dtype="int8")
    for rate, wanted in ((8, 7.0), (16, 12.2), (32, 19.6)):
        assert found[rate].speedup == pytest.approx(wanted, rel=0.01)
    assert found[16].latency == pytest.approx(
        2 * (large.macs("linear") / 16 + large.macs("attention")) / (1e12 * 0.6), rel=1e-6)


def test_speedup_grows_with_the_rate_and_never_passes_it(base: Work, large: Work) -> None:
    for work in (base, large):
        for batch in (1, 64):
            found = by_rate(work, "s4", batch, dtype="int8")
            speeds = [found[rate].speedup for rate in found]
            assert speeds == sorted(speeds)
            assert all(speed <= rate + 1e-9 for rate, speed in zip(found, speeds))


def test_a_large_sparse_model_overtakes_a_small_dense_one(base: Work, large: Work) -> None:
    assert overtaking_rate(large, base, "s4", 64, dtype="int8") in (4, 8)
    assert overtaking_rate(base, large, "s4", 64, dtype="int8") == 1
    assert overtaking_rate([KEEPS], [WEIGHT]) == 1
    huge = Op("a", "attention", 40 * BIG)
    assert overtaking_rate([WEIGHT, huge], [WEIGHT]) is None


def test_each_roof_bounds_where_it_is_lowest() -> None:
    for op, bound, seconds in (
        (WEIGHT, "arithmetic", 2 * BIG / (S4.flops["int8"] * 0.6)),
        (Op("w", "linear", 1, 10**9), "bytes", 1e9 / (72e9 * 0.8)),
        (Op("w", "linear", 1, 1, vector=10**9), "vector", 1e9 * 16 / (S4.flops["int8"] * 0.6)),
    ):
        (time,) = predict([op], "s4", 1.0, dtype="int8").times
        assert time.bound == bound
        assert time.seconds == pytest.approx(seconds)


def test_weights_are_read_once_a_batch() -> None:
    op = Op("w", "linear", 1, 10**8, sparsifiable=True)
    one, many = (predict([op], "s4", 0.125, batch=batch, dtype="int8") for batch in (1, 16))
    assert one.latency == many.latency
    assert many.throughput == pytest.approx(16 * one.throughput)
    assert one.latency == pytest.approx(1e8 * (8 + 5) / 8 / 8 / (72e9 * 0.8))


def test_activations_go_through_memory_where_they_do_not_fit_the_chip() -> None:
    op = Op("w", "linear", 1, 1, activations=10**9)
    assert predict([op], "t4", 1.0).latency == pytest.approx(2e9 / (320e9 * 0.8))
    assert predict([op], "s4", 1.0).latency < 1e-6


def test_what_each_device_makes_of_a_pattern() -> None:
    assert predict([WEIGHT], "t4", 0.5).speedup == 1
    assert predict([WEIGHT], "h200", pattern="2:4").speedup == pytest.approx(2)
    assert predict([WEIGHT], "h200", 0.5).speedup == 1  # arithmetic-bound, and dense
    assert predict([WEIGHT], "h200", 0.1, "64x64").speedup == pytest.approx(10)
    stored = Op("w", "linear", 1, 10**9, sparsifiable=True)
    assert predict([stored], "h200", pattern="2:4").speedup == pytest.approx(16 / 9)
    assert predict([stored], "h200", 0.3).speedup == pytest.approx(16 / 5.8)


def test_a_density_between_rates_runs_at_the_one_that_holds_it() -> None:
    found = predict([WEIGHT], "s4", 0.1)
    assert (found.pattern, found.density) == ("4:32", 0.125)
    assert "R = 8" in found.notes[0]
    assert predict([WEIGHT], "s4", pattern="2:4").density == 0.5


def test_inputs_that_do_not_fill_runs_are_padded() -> None:
    ragged = Op("w", "linear", BIG, 10**6, sparsifiable=True, shape=(1000, 40))
    found = predict([ragged], "s4", 0.125, dtype="int8")
    assert found.latency == pytest.approx(predict([WEIGHT], "s4", 0.125).latency * 64 / 40 / 2,
                                          rel=1e-6)
    assert any("padded" in note for note in found.notes)


def test_prediction_takes_models() -> None:
    sparse = predict(zoo.llama(), "a100", pattern="2:4", length=8)
    assert sparse.work.tokens == 8
    assert sparse.speedup >= 1
    assert sum(sparse.shares().values()) == pytest.approx(1)
    assert sparse.over(sparse) == 1


@pytest.mark.parametrize(("call", "error", "words"), [
    (lambda: predict([WEIGHT], "s5"), ConfigError, "did you mean 's4'"),
    (lambda: predict([WEIGHT], "s4", batch=0), ConfigError, "at least 1"),
    (lambda: predict([WEIGHT], "s4", 0.0), ConfigError, "Density must lie"),
    (lambda: predict([WEIGHT], "s4", float("nan")), ConfigError, "Density must lie"),
    (lambda: predict([WEIGHT], "s4", dtype="float32"), ConfigError, "no rate for 'float32'"),
    (lambda: predict([WEIGHT], "s4", 0.3, "2:4"), ConfigError, "contradicts density 0.3"),
    (lambda: predict([WEIGHT], "s4", pattern="3:5"), PatternError, "does not divide runs"),
    (lambda: predict([], "s4"), ConfigError, "at least one Op"),
    (lambda: predict([Op("w", "linear", 1, 30 * 10**9)], "s4"), UnsupportedError,
     "60.0 GB with its weights packed, more than the 20 GB"),
    (lambda: bits_a_weight(3, 8), ConfigError, "not 3"),
    (lambda: rate_of(1.5), ConfigError, "Density"),
    (lambda: Device("x", "X", "", True, {}, 1.0, 1.0, "dense", 0.0), ConfigError, "above 0"),
])
def test_bad_input_is_one_sentence(call, error: type[Exception], words: str) -> None:
    with pytest.raises(error, match=words):
        call()


def test_packing_lets_a_model_in_that_is_too_large_dense() -> None:
    op = Op("w", "linear", 1, 30 * 10**9, sparsifiable=True)
    found = predict([op], "s4", 1 / 32)
    assert found.memory == 30e9 * 21 / 32 / 8
    assert "hypothetical" in " ".join(found.notes)


def test_bits_of_a_weight_by_hand() -> None:
    assert bits_a_weight(16, 8) == (8 + 5) / 16
    assert bits_a_weight(1, 16) == 16


def test_even_masks_balance_and_random_ones_cost_what_the_binomial_says() -> None:
    generator = torch.Generator().manual_seed(0)
    score = torch.rand(1024, 1024, generator=generator)
    assert load_balance(select(score, nm(4, 32))) == 1
    for density in (0.125, 0.5):
        random = Support.of(score < density)
        assert load_balance(random) == pytest.approx(random_balance(density), rel=0.01)
    uneven = predict([WEIGHT], "s4", 0.125, "unstructured")
    assert uneven.speedup == pytest.approx(8 / random_balance(0.125))


def test_load_balance_by_hand() -> None:
    mask = torch.zeros(2, 64, dtype=torch.bool)
    mask[0, :3] = mask[1, 32] = True  # runs of 3, 0, 0 and 1
    assert load_balance(Support.of(mask), lanes=2) == 2 * (3 + 1) / 4
    assert load_balance(Support.of(mask), lanes=4) == 4 * 3 / 4


@given(
    call=st.floats(1e-6, 1e-5), low=st.floats(1e-10, 1e-9), high=st.floats(1e-10, 1e-9),
    share=st.floats(0, 1))
def test_costs_are_those_that_made_the_times(
    call: float, low: float, high: float, share: float
) -> None:
    def sample(side: int, density: float, rate: float, batch: int) -> Sample:
        positions = side * side
        kept = round(density * positions)
        return Sample(positions, kept, batch, batch * (call + rate * positions),
                      positions // 8 + 2 * kept)

    pairs = [(sample(1024, d, rate, b), sample(64, d, rate, b))
             for d, rate in ((0.125, low), (0.5, high)) for b in (1, 4)]
    found = from_samples("bitmask", "bfloat16", "unstructured", pairs)
    density = 0.125 + share * 0.375
    rate = low + share * (high - low)
    for batch in (1, 2, 4, 8):
        seconds = found.seconds(2.0**22, density * 2.0**22, batch)
        assert seconds == pytest.approx(batch * (call + rate * 2**22), rel=1e-6)
    assert found.nbytes(800, 400) == pytest.approx(100 + 800)


def test_a_kernel_needs_times() -> None:
    with pytest.raises(DataError, match="pairs of a large and a small"):
        from_samples("csr", "float32", "rows", [])


def kernel(layout: str, pattern: str, per_kept: float) -> Kernel:
    """A kernel that costs so much a kept weight, and nothing else."""
    costs = (Costs(1, 0.0, 0.0, 0.0), Costs(1, 1.0, 0.0, per_kept))
    return Kernel(layout, "float32", pattern, costs, (0.0, 4.0))


def test_a_cpu_takes_the_quickest_kernel_that_holds_the_pattern() -> None:
    kernels = (kernel("torch", "unstructured", 1.0), kernel("csr", "unstructured", 4.0),
               kernel("condensed", "rows", 3.0), kernel("nm", "2:4", 1.5))
    machine = Device("cpu", "C", "made up", True, {"float32": 1e9}, 1e12, 1e12, "kernels", 1e9,
                     kernels=kernels)
    op = Op("w", "linear", 1000, 1000, sparsifiable=True, shape=(10, 100))
    for pattern, density, layout, seconds in (
        ("unstructured", 0.1, "csr", 400.0), ("rows", 0.1, "condensed", 300.0),
        ("2:4", None, "nm", 750.0), ("unstructured", 0.5, "torch", 1000.0),
    ):
        (time,) = predict([op], machine, density, pattern).times
        assert (time.how, time.seconds) == (layout, pytest.approx(seconds))
        assert time.dense_seconds == pytest.approx(1000.0)


@pytest.fixture
def cheap(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> list[int]:
    """A measurement that takes no time, with a count of how often it was made."""
    made: list[int] = []

    def measure(about: dict) -> Device:
        made.append(1)
        return Device("cpu", about["cpu"], "measured", True, {"float32": 1e9}, 1e9, 1e9,
                      "kernels", 1e6, kernels=(kernel("csr", "rows", 1.0),))

    monkeypatch.setattr(cpu, "_measure", measure)
    monkeypatch.setenv("GOSSAMER_CACHE", str(tmp_path / "cache"))
    return made


def test_a_measurement_is_kept_and_a_damaged_one_made_anew(
    cheap: list[int], tmp_path: Path
) -> None:
    assert cpu.known_cpu() is None
    first = cpu.this_cpu()
    assert cpu.this_cpu() == cpu.known_cpu() == first
    assert get_device("cpu") == first
    assert len(cheap) == 1
    (path,) = (tmp_path / "cache").glob("cpu-*.json")
    for damage in ("", "{}", path.read_text()[:-40], '{"device": {"kernels": [{}]}}'):
        path.write_text(damage)
        cpu.this_cpu()
    assert len(cheap) == 5
    assert json.loads(path.read_text())["about"]["versions"]["torch"] == torch.__version__
    cpu.this_cpu(again=True)
    assert len(cheap) == 6


def test_a_cache_that_cannot_be_written_is_no_failure(
    cheap: list[int], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("GOSSAMER_CACHE", str(tmp_path / "file"))
    assert cpu.this_cpu().measured
    assert len(cheap) == 1


def test_this_machine_is_measured(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    module = "gossamer.measure.hardware.calibrate"
    monkeypatch.setattr(f"{module}._SHAPE", (128, 128))
    monkeypatch.setattr(f"{module}._SECONDS", 0.0)
    monkeypatch.setattr(cpu, "_LARGE", 1 << 20)
    monkeypatch.setattr(cpu, "cache_bytes", lambda: 1 << 20)
    monkeypatch.setattr(cpu, "_SIDES", {torch.float32: 64, torch.bfloat16: 64})
    monkeypatch.setenv("GOSSAMER_CACHE", str(tmp_path))
    found = cpu.this_cpu()
    assert found.measured
    assert {"torch"} <= {kernel.layout for kernel in found.kernels}
    assert cpu.this_cpu() == found
    layer = Op("w", "linear", 4096, 4096, sparsifiable=True, shape=(64, 64))
    assert predict([layer], found, 0.1).latency > 0


def test_vendors_figures_say_that_they_are_not_measured() -> None:
    for device in DEVICES.values():
        assert not device.measured
        assert device.source
    assert S4.source.startswith("unverified")
    assert S4.flops["int8"] * 32 == pytest.approx(944e12)  # sparse-equivalent, at 32


def test_calibration_covers_both_dtypes(monkeypatch: pytest.MonkeyPatch) -> None:
    module = "gossamer.measure.hardware.calibrate"
    monkeypatch.setattr(f"{module}._SHAPE", (96, 96))
    monkeypatch.setattr(f"{module}._BATCHES", (1,))
    monkeypatch.setattr(f"{module}._SECONDS", 0.0)
    assert {k.dtype for k in calibrate()} == {"float32", "bfloat16"}
