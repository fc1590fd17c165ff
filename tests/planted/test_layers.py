"""Planted layers have the law that they state, and separate the methods as they should."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from gossamer.core import ConfigError, Keep, rows, select, unstructured
from gossamer.planted import (
    Layer,
    correlated_layer,
    relative_output_error,
    scaled_layer,
    shifted_layer,
)

MAKERS = [correlated_layer, scaled_layer, shifted_layer]


def wanda(layer: Layer) -> Tensor:
    norms = layer.input.square().sum(0).sqrt()
    return select(layer.weight.abs() * norms, rows(), Keep.fraction(0.5)).apply(layer.weight)


def magnitude(layer: Layer) -> Tensor:
    return select(layer.weight.abs(), unstructured(), Keep.fraction(0.5)).apply(layer.weight)


@pytest.mark.parametrize("make", MAKERS)
def test_a_seed_fixes_everything(make: type) -> None:
    one, two, other = make(seed=3), make(seed=3), make(seed=4)
    assert torch.equal(one.weight, two.weight)
    assert torch.equal(one.input, two.input)
    assert not torch.equal(one.weight, other.weight)
    assert torch.equal(one.truth.draw(5, 1), two.truth.draw(5, 1))
    assert not torch.equal(one.truth.draw(5, 1), one.truth.draw(5, 2))
    state = torch.get_rng_state()
    make()
    assert torch.equal(state, torch.get_rng_state())


@pytest.mark.parametrize("make", MAKERS)
def test_samples_follow_the_law(make: type) -> None:
    layer = make(features=32, outputs=4, tokens=40_000)
    x = layer.input.double()
    gram, truth = x.t() @ x / len(x), layer.truth.gram()
    assert float((gram - truth).norm() / truth.norm()) < 0.05
    scale = torch.linalg.cholesky(truth - torch.outer(*2 * [layer.truth.mean.double()]))
    white = torch.linalg.solve_triangular(scale, (x - layer.truth.mean).t(), upper=False)
    assert float((white @ white.t() / len(x) - torch.eye(32)).abs().max()) < 0.05


@pytest.mark.parametrize("condition", [1.0, 10.0, 100.0])
def test_correlated_inputs_have_the_stated_spectrum(condition: float) -> None:
    truth = correlated_layer(features=64, condition=condition).truth
    found = torch.linalg.svdvals(truth.factor.double())
    expected = torch.tensor([condition ** (-i / 63) for i in range(64)], dtype=torch.float64)
    assert torch.allclose(found, expected, rtol=1e-5)
    assert not truth.mean.any()


def test_a_condition_number_below_one_is_refused() -> None:
    for condition in (0.5, float("nan")):
        with pytest.raises(ConfigError, match="at least 1"):
            correlated_layer(condition=condition)


def test_scales_lie_within_their_decades() -> None:
    scales = scaled_layer(features=4000, decades=1.0).truth.factor.diag().log10()
    assert -1 <= float(scales.min()) < -0.95
    assert 0.95 < float(scales.max()) <= 1
    assert abs(float(scales.mean())) < 0.05
    assert (scaled_layer(decades=0.0).truth.factor == torch.eye(256)).all()


def test_means_are_shifted_and_noise_is_not() -> None:
    for shift in (1.0, 0.25):
        layer = shifted_layer(shift=shift)
        assert float(layer.truth.mean.std()) == pytest.approx(shift, rel=0.1)
        assert float((layer.input - layer.truth.mean).std()) == pytest.approx(0.5, rel=0.01)
        assert float(layer.weight.std()) == pytest.approx(0.02, rel=0.02)


@pytest.mark.parametrize("seed", range(3))
def test_norms_decide_where_features_are_scaled(seed: int) -> None:
    layer = scaled_layer(seed=seed)
    gram = layer.truth.gram()
    ratio = relative_output_error(layer.weight, wanda(layer), gram) / relative_output_error(
        layer.weight, magnitude(layer), gram)
    assert ratio <= 0.1


def obs(layer: Layer) -> Tensor:
    """SparseGPT's equations one column at a time: half of every 128 columns, float64."""
    weight, x = layer.weight.double(), layer.input.double()
    gram = x.t() @ x
    gram += 0.01 * gram.diag().mean() * torch.eye(len(gram))
    factor = torch.linalg.cholesky(torch.linalg.inv(gram), upper=True)
    for column in range(weight.shape[1]):
        if column % 128 == 0:
            ahead = slice(column, column + 128)
            score = (weight[:, ahead] / factor.diag()[ahead]).square()
            keep = select(score, unstructured(), Keep.fraction(0.5)).mask()
        lost = torch.where(keep[:, column % 128], 0.0, weight[:, column] / factor[column, column])
        weight[:, column:] -= torch.outer(lost, factor[column, column:])
        weight[:, column] *= keep[:, column % 128]
    return weight


@pytest.mark.parametrize(("condition", "limit"), [(10.0, 0.75), (30.0, 0.65), (100.0, 0.55)])
def test_the_gram_matrix_decides_where_features_are_correlated(
    condition: float, limit: float
) -> None:
    layer = correlated_layer(condition=condition)
    gram = layer.input.t() @ layer.input
    by_norm = relative_output_error(layer.weight, wanda(layer), gram)
    ratio = relative_output_error(layer.weight, obs(layer), gram) / by_norm
    assert 0.5 * limit < ratio <= limit
    blind = relative_output_error(layer.weight, magnitude(layer), gram)
    assert by_norm == pytest.approx(blind, rel=0.15)  # norms say nothing here
