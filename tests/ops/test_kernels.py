"""A user's layout and kernel beside those of the house, and the fallback that says it was used."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch import Tensor

from gossamer.core import ConfigError
from gossamer.layout import LAYOUTS, pack, register, unpack
from gossamer.ops import PackedLinear, explain, linear
from gossamer.ops.linear import Kernel, fallbacks
from gossamer.ops.linear import register as register_kernel
from gossamer.ops.linear.form import Form, Parts

MINE = replace(LAYOUTS["csr"], name="mine")


def where(x: Tensor, parts: Parts, form: Form) -> str | None:
    return None if x.dtype == torch.float64 else "mine takes float64 alone"


def run(x: Tensor, parts: Parts, bias: Tensor | None, form: Form) -> Tensor:
    return torch.full((*x.shape[:-1], form.rows), 7.0, dtype=torch.float64)


def test_a_new_layout_computes_by_the_reference_until_it_has_a_kernel() -> None:
    weight = torch.randn(5, 9)
    weight[weight.abs() < 1] = 0
    x, wide = torch.randn(3, 9), torch.randn(3, 9, dtype=torch.float64)
    with register(MINE), fallbacks() as seen:
        packed = pack(weight, layout="mine")
        torch.testing.assert_close(linear(x, packed), x @ weight.t())
        assert torch.equal(unpack(PackedLinear(packed).packed), weight)
        assert explain(x, packed).endswith("there is no kernel for layout mine")
        with register_kernel(Kernel("m", ("mine",), where, run)):
            assert bool((linear(wide, packed) == 7).all())
            assert explain(wide, packed) == "m for mine: it covers this input"
            assert explain(x, packed).endswith("mine takes float64 alone")
            linear(x, packed)
    assert dict(seen) == {"mine: there is no kernel for layout mine": 1,
                          "mine: mine takes float64 alone": 1}


def test_names_are_taken_once_and_scopes_end() -> None:
    with register(MINE), pytest.raises(ConfigError, match="There is a layout 'mine' already"):
        register(MINE)
    assert "mine" not in LAYOUTS
    with pytest.raises(ConfigError, match="auto"):
        register(replace(MINE, name="auto"))
    with pytest.raises(ConfigError, match="There is a kernel of linear 'cpu' already"):
        register_kernel(Kernel("cpu", ("csr",), where, run))


def test_a_kernel_of_the_user_comes_before_those_of_the_house() -> None:
    packed, x = pack(torch.eye(4).double(), layout="csr"), torch.ones(1, 4, dtype=torch.float64)
    with register_kernel(Kernel("m", ("csr",), where, run)):
        assert linear(x, packed).tolist() == [[7.0] * 4]
        x.requires_grad_()
        linear(x, packed).sum().backward()
    assert x.grad is not None
    assert x.grad.tolist() == [[1.0] * 4]
    assert linear(x, packed).tolist() == [[1.0] * 4]


def test_products_that_kernels_cover_are_no_fallbacks() -> None:
    if explain(torch.ones(1, 4), pack(torch.eye(4), layout="csr")).startswith("reference"):
        pytest.skip("needs the compiled kernels")
    with fallbacks() as seen:
        linear(torch.ones(1, 4), pack(torch.eye(4), layout="csr"))
    assert not seen
