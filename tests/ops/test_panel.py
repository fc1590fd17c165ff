"""Many inputs at half of the weights, where lists take the place of dense rows, in float64."""

from __future__ import annotations

import pytest
import torch

from gossamer import native
from gossamer.core import Keep, Pattern, nm, rows, select, unstructured
from gossamer.layout import pack, unpack
from gossamer.ops import explain, linear

CASES: list[tuple[str, Pattern]] = [
    ("nm", nm(2, 4)), ("nm", nm(1, 4)), ("nm", nm(4, 8)), ("bitmask", unstructured()),
    ("csr", unstructured()), ("condensed", rows()),
]


@pytest.mark.skipif(native.core is None, reason="needs the compiled kernels")
@pytest.mark.parametrize("name", native.isas() or ["absent"])
@pytest.mark.parametrize(("layout", "pattern"), CASES)
@pytest.mark.parametrize("inputs", [64, 67, 150])
def test_many_inputs_of_half_the_weights(
    name: str, layout: str, pattern: Pattern, inputs: int
) -> None:
    torch.manual_seed(inputs)
    weight, bias = torch.randn(131, 216), torch.randn(131)
    keep = {} if pattern.unit == (1, 1) and layout == "nm" else {"keep": Keep.fraction(0.5)}
    packed = pack(weight, select(weight.abs(), pattern, **keep), layout)
    x, dense, before = torch.randn(inputs, 216), unpack(packed).double(), native.isa()
    native.set_isa(name)
    try:
        assert "panels" in explain(x, packed)
        got, rounded = linear(x, packed, bias), linear(x.bfloat16(), packed, bias)
    finally:
        native.set_isa(before)
    y, size = x.double() @ dense.t() + bias.double(), x.double().abs() @ dense.abs().t() + 1
    assert bool(((got.double() - y).abs() <= 2e-6 * size).all())
    assert bool(((rounded.double() - y).abs() <= 1.2e-2 * size).all())
