"""What is promised of every layout: training, compiling, autocast, odd input; on the CPU."""

from __future__ import annotations

import copy
import itertools

import pytest
import torch
from torch import Tensor, nn

from gossamer.layout import LAYOUTS, Packed, pack, quantise, unpack
from gossamer.ops import PackedConv2d, PackedLinear, conv2d, linear
from gossamer.ops.conv import FREE, RELU, Window
from tests.held import EXACT, held

EVERY = list(LAYOUTS)
FLOAT, HALF = torch.float32, torch.bfloat16


def packed_for(layout: str, rows: int = 12, cols: int = 24, dtype: torch.dtype = FLOAT) -> Packed:
    """A matrix in a layout."""
    support = held(layout, torch.rand(rows, cols))
    if LAYOUTS[layout].any_weight:
        return pack(torch.randn(rows, cols), support, layout, dtype)
    return quantise(torch.randn(rows, cols), support, layout)


def kept(packed: Packed, values: Tensor) -> Tensor:
    """The matrix of other values at the kept places."""
    return unpack(Packed(packed.layout, packed.shape, dict(packed.parts, values=values)))


class Masked(nn.Module):
    """Two packed layers with a nonlinearity between them, trained by their values."""

    def __init__(self, layout: str) -> None:
        super().__init__()
        self.first = PackedLinear(packed_for(layout, 16, 24), torch.randn(16))
        self.last = PackedLinear(packed_for(layout, 8, 16), torch.randn(8))

    def forward(self, x: Tensor) -> Tensor:
        return self.last(self.first(x).tanh())


@pytest.mark.parametrize("layout", ["dense", "bitmask", "bsr", "nm"])
@pytest.mark.parametrize("batch", [1, 5, 33, 70])
def test_a_chain_trains_like_its_dense_double_in_float64(layout: str, batch: int) -> None:
    net, x, push = Masked(layout), torch.randn(batch, 24), torch.randn(batch, 8)
    for layer in (net.first, net.last):
        layer.values.requires_grad_()
        layer.bias.requires_grad_()
    x.requires_grad_()
    (net(x) * push).sum().backward()

    dense = [unpack(layer.packed).detach().double().requires_grad_()
             for layer in (net.first, net.last)]
    bias = [layer.bias.detach().double().requires_grad_() for layer in (net.first, net.last)]
    x2 = x.detach().double().requires_grad_()
    y2 = torch.tanh(x2 @ dense[0].t() + bias[0]) @ dense[1].t() + bias[1]
    (y2 * push.double()).sum().backward()
    torch.testing.assert_close(x.grad.double(), x2.grad, rtol=1e-4, atol=1e-4)
    for layer, weight, shift in zip((net.first, net.last), dense, bias):
        mask = kept(layer.packed, torch.ones_like(layer.values).detach()) != 0
        found = kept(layer.packed, layer.values.grad)
        torch.testing.assert_close(found.double(), torch.where(mask, weight.grad, 0), rtol=1e-4,
                                   atol=1e-4)
        torch.testing.assert_close(layer.bias.grad.double(), shift.grad, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("layout", ["dense", "bitmask", "bsr", "nm"])
def test_an_optimizer_follows_the_dense_projected_run(layout: str) -> None:
    layer, x = PackedLinear(packed_for(layout)), torch.randn(32, 24)
    layer.values.requires_grad_()
    mask = (kept(layer.packed, torch.ones_like(layer.values).detach()) != 0).double()
    target, weight = torch.randn(32, 12), unpack(layer.packed).detach().double()
    optimizer = torch.optim.SGD([layer.values], 0.05)
    for _ in range(4):
        optimizer.zero_grad()
        (layer(x) - target).square().mean().backward()
        optimizer.step()
        error = x.double() @ weight.t() - target.double()
        weight -= 0.05 * mask * (2 / error.numel() * error.t() @ x.double())
    torch.testing.assert_close(unpack(layer.packed).detach().double(), weight, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("layout", EXACT)
def test_gradients_inside_autocast_keep_their_width(layout: str) -> None:
    layer, x = PackedLinear(packed_for(layout)), torch.randn(40, 24, requires_grad=True)
    layer.values.requires_grad_()
    with torch.autocast("cpu", dtype=HALF):
        layer(x).sum().backward()
    weight = unpack(layer.packed).detach()
    torch.testing.assert_close(x.grad, weight.sum(0).expand(40, -1), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("layout", EVERY)
@pytest.mark.parametrize("bounds", [FREE, RELU])
def test_convolutions_compile_copy_and_hold_under_autocast(
    layout: str, bounds: tuple[float, float]
) -> None:
    torch.compiler.reset()
    layer = PackedConv2d(packed_for(layout), torch.randn(12), Window.square(2), bounds).eval()
    x = torch.randn(2, 6, 5, 5)
    wanted = layer(x)
    dense = torch.conv2d(x.double(), unpack(layer.packed).double().view(12, 6, 2, 2),
                         layer.bias.double()).clamp(*bounds)
    torch.testing.assert_close(wanted.double(), dense, rtol=1e-4, atol=1e-4)
    compiled = torch.compile(layer, fullgraph=True, backend="aot_eager")
    torch.testing.assert_close(compiled(x), wanted)
    with torch.autocast("cpu", dtype=HALF):
        torch.testing.assert_close(layer(x), wanted)
    with torch.inference_mode():
        torch.testing.assert_close(layer(x), wanted)
    other = copy.deepcopy(layer)
    other.load_state_dict(layer.state_dict())
    assert torch.equal(other(x), wanted)


@pytest.mark.parametrize("layout", EVERY)
def test_the_function_compiles_once_its_weight_was_checked(layout: str) -> None:
    torch.compiler.reset()
    packed, x = packed_for(layout), torch.randn(3, 24)
    packed.validate()
    compiled = torch.compile(lambda x: linear(x, packed), fullgraph=True, backend="aot_eager")
    assert torch.equal(compiled(x), linear(x, packed))


@pytest.mark.parametrize("layout", ["bitmask", "bsr", "nm"])
def test_a_compiled_chain_trains_and_takes_other_batches(layout: str) -> None:
    torch.compiler.reset()
    net = Masked(layout)
    net.first.values.requires_grad_()
    compiled = torch.compile(net, fullgraph=True, backend="aot_eager", dynamic=True)
    for batch in (3, 7, 80):
        x = torch.randn(batch, 24)
        net.first.values.grad = None
        compiled(x).square().sum().backward()
        got = net.first.values.grad
        net.first.values.grad = None
        net(x).square().sum().backward()
        torch.testing.assert_close(got, net.first.values.grad)


@pytest.mark.parametrize("layout", EVERY)
def test_a_bad_input_stays_in_its_row(layout: str) -> None:
    for batch, bad in itertools.product((2, 9, 17, 70), (float("nan"), float("inf"))):
        packed, x = packed_for(layout), torch.randn(batch, 24)
        clean = linear(x, packed)
        x[0, 5] = bad
        y = linear(x, packed)
        touched = unpack(packed)[:, 5] != 0
        assert not bool(y[0, touched].isfinite().any())
        torch.testing.assert_close(y[1:], clean[1:])


@pytest.mark.parametrize("layout", EVERY)
@pytest.mark.parametrize("batch", [1, 9, 70])
def test_inputs_of_any_stride_place_and_dtype(layout: str, batch: int) -> None:
    packed, bias = packed_for(layout), torch.randn(12)
    dense = unpack(packed).double()
    plain = torch.randn(batch, 24)
    shifted = torch.cat([torch.zeros(1), plain.flatten()])[1:].view(batch, 24)
    wide = torch.randn(batch, 48)
    wide[:, ::2] = plain
    for x in (plain, shifted, wide[:, ::2], plain.t().contiguous().t(), plain.to(HALF),
              plain.double(), plain.half()):
        for shift in (None, bias, bias.to(HALF), bias.double(), torch.stack([bias, bias], 1)[:, 0]):
            y = linear(x, packed, shift)
            right = x.double() @ dense.t() + (0 if shift is None else shift.double())
            near = 2e-2 if HALF in (y.dtype, x.dtype) or y.dtype == torch.float16 else 1e-4
            torch.testing.assert_close(y.double(), right, rtol=near, atol=near * 5)


@pytest.mark.parametrize("layout", EVERY)
def test_sides_that_no_kernel_likes(layout: str) -> None:
    for rows, cols in ((4, 4), (4, 132), (132, 4), (36, 1028)):
        packed = packed_for(layout, rows, cols)
        for batch in (1, 3, 65):
            x = torch.randn(batch, cols)
            torch.testing.assert_close(linear(x, packed).double(),
                                       x.double() @ unpack(packed).double().t(), rtol=1e-4,
                                       atol=1e-3)
        assert linear(torch.randn(0, cols), packed).shape == (0, rows)
        assert conv2d(torch.randn(0, cols, 3, 3), packed).shape == (0, rows, 3, 3)


@pytest.mark.parametrize("layout", [name for name in EXACT if name not in (
    "nm", "bsr", "channel_groups", "group_nm")])
@pytest.mark.parametrize("shape", [(0, 24), (12, 0), (0, 0), (12, 24)])
def test_nothing_kept_gives_the_bias(layout: str, shape: tuple[int, int]) -> None:
    packed, bias = pack(torch.zeros(shape), layout=layout), torch.randn(shape[0])
    for batch in (1, 9, 70):
        y = linear(torch.randn(batch, shape[1]), packed, bias)
        assert torch.equal(y, bias.expand(batch, -1))
