"""Solvers, factors, grids and swaps against closed forms and hand computation."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from gossamer.core import DataError, Keep, Pattern, columns, nm, rows, select
from gossamer.planted import correlated_layer, relative_output_error, shifted_layer
from gossamer.prune import sparsegpt_layer
from gossamer.prune.parts.dsnot import SwapSettings, expected_error, swap
from gossamer.prune.parts.hessian import factorise, invert_cholesky_
from gossamer.prune.parts.quantiser import fit_grid
from gossamer.prune.parts.solver import Budget
from gossamer.prune.parts.sparsellm import Penalties, Problem, alternate, gradient_step, relu_step

HALF = Keep.fraction(0.5)


@given(n=st.integers(1, 700), seed=st.integers(0, 9))
@settings(max_examples=15, deadline=None)
def test_the_factor_is_that_of_the_inverse(n: int, seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(2 * n + 4, n, generator=generator, dtype=torch.float64)
    hessian = x.t() @ x
    found = factorise(hessian, 0.01, "h")
    damped = hessian + 0.01 * hessian.diagonal().mean() * torch.eye(n, dtype=torch.float64)
    assert torch.equal(found.upper, found.upper.triu())
    torch.testing.assert_close(found.upper.t() @ found.upper, torch.linalg.inv(damped))


def test_a_matrix_that_is_not_positive_definite_is_noticed() -> None:
    matrix = torch.eye(600)
    matrix[400, 400] = -1
    assert not invert_cholesky_(matrix)


def test_too_few_tokens_raise_the_damping_and_nan_is_refused() -> None:
    x = torch.randn(3, 64)
    upper = factorise(x.t() @ x, 1e-9, "h").upper
    assert torch.isfinite(upper).all()
    with pytest.raises(DataError, match=r"layer7.*NaN"):
        factorise(torch.full((4, 4), float("nan")), 0.01, "layer7")
    with pytest.raises(DataError, match="square"):
        factorise(torch.zeros(3, 4), 0.01, "h")


def test_sparsegpt_by_hand() -> None:
    """Two columns, H = [[2, 1], [1, 2]], w = [1, 3]: dropping w0 moves w1 to 3 + 1/2."""
    weight, hessian = torch.tensor([[1.0, 3.0]]), torch.tensor([[2.0, 1.0], [1.0, 2.0]])
    out, support, loss = sparsegpt_layer(weight, hessian.double(), Budget(nm(1, 2), HALF), None)
    damped = hessian + 0.01 * 2 * torch.eye(2)
    expected = 3 + float(damped[0, 1] / damped[1, 1])
    assert support.mask().tolist() == [[False, True]]
    assert out.tolist() == [[0.0, pytest.approx(expected, rel=1e-5)]]
    schur = damped[0, 0] - damped[0, 1] ** 2 / damped[1, 1]
    assert float(loss) == pytest.approx(float(schur) / 2, rel=1e-4)


@pytest.mark.parametrize(("pattern", "density"), [(columns(128), 0.5), (rows(), 0.3),
                                                  (nm(4, 8), 0.5), (columns(100), 0.7)])
def test_sparsegpt_meets_its_budget_and_beats_the_mask_alone(pattern: object,
                                                             density: float) -> None:
    layer = correlated_layer(features=256, outputs=64, seed=1)
    gram = layer.input.t() @ layer.input
    out, support, _ = sparsegpt_layer(layer.weight, gram, Budget(pattern, Keep.fraction(density)))
    assert support.density == pytest.approx(density, abs=0.01)
    assert (out[~support.mask()] == 0).all()
    masked = support.apply(layer.weight)
    assert relative_output_error(layer.weight, out, gram) < relative_output_error(
        layer.weight, masked, gram)


def test_dead_inputs_lose_their_weights() -> None:
    x = torch.randn(100, 16)
    x[:, 5] = 0
    everything = Budget(columns(16), Keep.fraction(1))
    out, _, _ = sparsegpt_layer(torch.randn(8, 16), x.t() @ x, everything)
    assert (out[:, 5] == 0).all()
    assert (out[:, 4] != 0).all()


def test_a_grid_holds_zero_and_halves_the_error_of_each_bit() -> None:
    weight = torch.randn(16, 256)
    errors = [float((fit_grid(weight, b).round(weight) - weight).norm()) for b in (2, 3, 4, 8)]
    assert errors == sorted(errors, reverse=True)
    assert errors[3] < 0.02 * float(weight.norm())
    assert (fit_grid(weight, 3).round(torch.zeros(16, 4)) == 0).all()


def test_a_swap_by_hand() -> None:
    """One row, means (1, 1, -1, 1) / 2048: dropped 2 and -1 give error 1; swap brings back 2."""
    weight = torch.tensor([[2.0, 3.0, 5.0, -1.0]])
    mean = torch.tensor([1.0, 1.0, -1.0, 1.0]) / 2048
    mask = torch.tensor([[False, True, True, False]])
    from gossamer.core import Support

    start = Support.of(mask, rows())
    assert expected_error(weight, mean, mask).tolist() == [1.0]
    score = torch.tensor([[2.0, 3.0, 1.0, 1.0]])
    free = swap(weight, mean, torch.ones(4), score, start, SwapSettings(1, 0.1, same_sign=False))
    # Growing 2 (D = 2) and dropping 5 (D = -5) gives 1 - 2 - 5 = -6: refused under same_sign.
    assert free.mask().tolist() == [[True, True, False, False]]
    assert swap(weight, mean, torch.ones(4), score, start, SwapSettings(1)) == start


@pytest.mark.parametrize("pattern", [rows(), nm(2, 4)])
def test_swaps_keep_counts_and_lower_the_expected_error(pattern: Pattern) -> None:
    layer = shifted_layer(features=256, seed=2)
    x = layer.input
    score = layer.weight.abs() * x.norm(dim=0)
    start = select(score, pattern, HALF)
    after = swap(layer.weight, x.mean(0), x.var(0, correction=0), score, start)
    after.check(pattern)
    assert torch.equal(after.row_counts(), start.row_counts())
    errors = [expected_error(layer.weight, x.mean(0), s.mask()).abs() for s in (start, after)]
    if not pattern.is_nm:  # in N:M the weight that goes is the group's least, whatever its sign
        assert (errors[1] <= errors[0] + 1e-6).all()
    assert errors[1].sum() < 0.5 * errors[0].sum()


def test_swaps_refuse_bad_starts() -> None:
    weight, one = torch.randn(2, 4), torch.ones(4)
    uneven = select(torch.tensor([[9.0, 9, 9, 1], [9, 1, 1, 1]]), rows(), Keep.above(5))
    with pytest.raises(DataError, match="same number in every row"):
        swap(weight, one, one, weight.abs(), uneven)
    start = select(weight.abs(), rows(), HALF)
    with pytest.raises(DataError, match="variance"):
        swap(weight, one, 0 * one, weight.abs(), start)
    assert swap(weight, one, one, weight.abs(), start, SwapSettings(0)) == start


def test_the_relu_step_is_the_best_of_a_fine_grid() -> None:
    generator = torch.Generator().manual_seed(0)
    target, p = torch.randn(200, generator=generator), torch.randn(200, generator=generator)
    found = relu_step(target, p, 0.3, 0.7)
    grid = torch.linspace(-5, 5, 20001)[:, None]

    def loss(z: torch.Tensor) -> torch.Tensor:
        return 0.3 * (z - target).square() + 0.7 * (p - z.clamp_min(0)).square()

    assert (loss(found) <= loss(grid).min(0).values + 1e-6).all()


def test_a_gradient_step_never_worsens_an_element() -> None:
    start = torch.randn(50, 3)

    def loss(x: torch.Tensor) -> torch.Tensor:
        return (x - 1).pow(4) + torch.sin(5 * x)

    assert (loss(gradient_step(start, loss)) <= loss(start)).all()


def test_the_alternation_refuses_penalties_and_too_few_tokens() -> None:
    problem = Problem(torch.randn(8, 4), torch.randn(8, 4), torch.randn(16, 4),
                      torch.randn(4, 16), None, {}, "relu")
    with pytest.raises(DataError, match="positive"):
        alternate(problem, Penalties(0.0, 1, 1), lambda *_: None)
    few = torch.randn(2, 4)
    short = Problem(few, few, problem.up, problem.down, None, {}, "relu")
    with pytest.raises(DataError, match="2 tokens for 4 inputs"):
        alternate(short, Penalties(1, 1, 1), lambda *_: None)
