"""Losses for sparse embeddings in closed form, the head, and the index of embeddings."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from gossamer.core import ConfigError, DataError
from gossamer.layout.rows import as_rows
from gossamer.retrieval.parts.flops import activity, arc_face, flops_loss, l1_loss, operations
from gossamer.retrieval.systems import FlopsSparseEmbeddings


def test_losses_and_their_gradients_in_closed_form() -> None:
    x = torch.tensor([[1.0, 0.0, 2.0], [3.0, 0.0, 0.0]], dtype=torch.float64, requires_grad=True)
    assert flops_loss(x).item() == pytest.approx(2.0**2 + 1.0**2)
    assert l1_loss(x).item() == pytest.approx(3.0)
    (grad,) = torch.autograd.grad(flops_loss(x), x)
    # Twice the mean of the column over the rows: a busy column is pushed harder.
    torch.testing.assert_close(grad[:, 0], torch.full((2,), 2.0, dtype=torch.float64))
    assert grad[0, 2].item() == pytest.approx(1.0)


def test_operations_are_the_products_of_pairs() -> None:
    x = torch.relu(torch.randn(40, 16, generator=torch.Generator().manual_seed(0)))
    active = (x > 0).double()
    pairs = active @ active.t()
    expected = (pairs.sum() - pairs.diagonal().sum()) / (40 * 39)
    assert operations(x) == pytest.approx(float(expected))
    with pytest.raises(DataError, match="two rows"):
        operations(x[:1])


def test_even_rows_have_evenness_one() -> None:
    even = as_rows(np.kron(np.eye(4), np.ones((1, 2))))
    assert activity(even).evenness == pytest.approx(1.0)
    assert activity(even).flops == pytest.approx(8 / 16)
    uneven = activity(as_rows([{0: 1.0, 1: 1.0}, {0: 1.0}, {}], 4))
    assert uneven.evenness == pytest.approx(4 * ((2 / 3) ** 2 + (1 / 3) ** 2) / 1.0)
    assert uneven.empty == pytest.approx(1 / 3)
    with pytest.raises(DataError, match="no active"):
        activity(as_rows([{}], 4))


def test_arc_face_adds_the_angle() -> None:
    angle, margin, scale = 0.7, 0.5, 16.0
    classes = torch.eye(2, dtype=torch.float64) * 3
    x = torch.tensor([[math.cos(angle), math.sin(angle)]], dtype=torch.float64)
    right, wrong = math.cos(angle + margin), math.sin(angle)
    expected = -math.log(1 / (1 + math.exp(scale * (wrong - right))))
    found = arc_face(x, classes, torch.tensor([0]), scale, margin)
    assert found.item() == pytest.approx(expected, rel=1e-9)
    # Past pi the cosine falls on.
    far = torch.tensor([[math.cos(3.0), math.sin(3.0)]], dtype=torch.float64)
    expected = -math.log(1 / (1 + math.exp(scale * (math.sin(3.0) - (
        math.cos(3.0) - 1 + math.cos(margin))))))
    assert arc_face(far, classes, torch.tensor([0]), scale, margin).item() == pytest.approx(
        expected, rel=1e-6)


def test_the_index_ranks_by_cosine_and_again_by_dense_embeddings() -> None:
    generator = torch.Generator().manual_seed(1)
    system = FlopsSparseEmbeddings(dimensions=32, threshold=0.3)
    with torch.no_grad():
        x = system.head(8)(torch.randn(60, 8, generator=generator))
    ids, scores = system.index(x).search(x[:4], 5)
    cosines = (x[:4] @ x.t()).numpy()
    for q in range(4):
        best = np.sort(cosines[q])[::-1][:5]
        np.testing.assert_allclose(scores[q][ids[q] >= 0], best[best > 0.3], rtol=1e-5)
    dense = torch.nn.functional.normalize(torch.randn(60, 6, generator=generator))
    again, new = system.index(x).search(x[:4], 3, (dense, dense[:4]), candidates=10)
    assert again[:, 0].tolist() == [0, 1, 2, 3]
    np.testing.assert_allclose(new[:, 0], 1.0, rtol=1e-5)


def test_the_strength_warms_up() -> None:
    system = FlopsSparseEmbeddings(dimensions=4, strength=2.0, warm_up=10)
    x, classes = torch.eye(4)[:3], torch.eye(4)[:3]
    labels = torch.arange(3)
    losses = [float(system.loss(x, classes, labels, step)) for step in (0, 5, 10, 99)]
    regulariser = 2.0 * float(flops_loss(x))
    np.testing.assert_allclose(np.diff(losses), [regulariser / 4, regulariser * 3 / 4, 0],
                               atol=1e-5)


@pytest.mark.parametrize(("call", "message"), [
    (lambda: FlopsSparseEmbeddings(strength=-1.0), "strength"),
    (lambda: FlopsSparseEmbeddings(dimensions=1), "dimensions"),
    (lambda: FlopsSparseEmbeddings().index(torch.zeros(3, 4)), "row 0 is all zero"),
    (lambda: FlopsSparseEmbeddings().index(torch.tensor([[math.nan, 1.0]])), "finite"),
    (lambda: FlopsSparseEmbeddings().index(torch.tensor([[-1.0, 1.0]])), "not negative"),
    (lambda: FlopsSparseEmbeddings().index(torch.zeros(0, 4)), "no row"),
    (lambda: FlopsSparseEmbeddings().index(torch.zeros(3)), "1-d"),
])
def test_bad_input_in_one_sentence(call, message: str) -> None:
    with pytest.raises((ConfigError, DataError), match=message):
        call()
