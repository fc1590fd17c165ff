"""linear and PackedLinear as good citizens of torch: gradients, compile, copies, state."""

from __future__ import annotations

import copy
import io

import pytest
import torch
from torch import Tensor

from gossamer.core import SupportError
from gossamer.layout import LAYOUTS, Packed, pack, quantise, support_of, unpack
from gossamer.ops import PackedLinear, linear
from gossamer.ops.linear.form import parts_of
from gossamer.ops.linear.op import packed_linear
from tests.held import EXACT, held


def packed_for(layout: str, dtype: torch.dtype = torch.float32) -> Packed:
    return pack(torch.randn(6, 12), held(layout, torch.rand(6, 12)), layout, dtype)


def op_arguments(packed: Packed) -> tuple[object, ...]:
    values, *others = parts_of(packed)
    return values, others, torch.randn(6), packed.layout, list(packed.shape)


@pytest.mark.parametrize("layout", EXACT)
def test_the_operator_passes_torchs_own_check(layout: str) -> None:
    packed = packed_for(layout)
    packed.values.requires_grad_()
    x = torch.randn(3, 12, requires_grad=True)
    torch.library.opcheck(packed_linear, (x, *op_arguments(packed)))


@pytest.mark.parametrize("layout", EXACT)
def test_gradients_equal_those_of_the_dense_product(layout: str) -> None:
    packed, bias = packed_for(layout), torch.randn(6, requires_grad=True)
    x = torch.randn(2, 3, 12, requires_grad=True)
    packed.values.requires_grad_()
    push = torch.randn(2, 3, 6)
    (linear(x, packed, bias) * push).sum().backward()

    weight = unpack(packed).detach().double().requires_grad_()
    x2, bias2 = x.detach().double().requires_grad_(), bias.detach().double().requires_grad_()
    (torch.nn.functional.linear(x2, weight, bias2) * push.double()).sum().backward()
    assert x2.grad is not None
    torch.testing.assert_close(x.grad, x2.grad.float())
    torch.testing.assert_close(bias.grad, bias2.grad.float())
    kept = Packed(packed.layout, packed.shape, dict(packed.parts, values=packed.values.grad))
    mask = unpack(packed) != 0
    torch.testing.assert_close(unpack(kept), torch.where(mask, weight.grad, 0).float())


def test_gradients_pass_the_numerical_check() -> None:
    packed = packed_for("bitmask", torch.float64)
    values, *others = parts_of(packed)
    x = torch.randn(3, 12, dtype=torch.float64, requires_grad=True)
    values.requires_grad_()
    assert torch.autograd.gradcheck(
        lambda a, v: packed_linear(a, v, others, None, "bitmask", [6, 12]), (x, values))


@pytest.mark.parametrize("layout", EXACT)
@pytest.mark.parametrize("bias", [False, True])
def test_the_layer_compiles_whole(layout: str, bias: bool) -> None:
    torch.compiler.reset()
    layer = PackedLinear(packed_for(layout, torch.bfloat16), torch.randn(6) if bias else None)
    compiled = torch.compile(layer, fullgraph=True, backend="aot_eager")
    x = torch.randn(2, 3, 12)
    assert torch.equal(compiled(x), layer(x))
    a, b = x.clone().requires_grad_(), x.clone().requires_grad_()
    compiled(a).sum().backward()
    layer(b).sum().backward()
    assert a.grad is not None
    assert torch.equal(a.grad, b.grad)


@pytest.mark.parametrize("layout", EXACT)
def test_the_layer_equals_nn_linear(layout: str) -> None:
    plain = torch.nn.Linear(12, 6)
    support = held(layout, torch.rand(6, 12))
    layer = PackedLinear.from_linear(plain.weight, plain.bias, support, layout)
    with torch.no_grad():
        plain.weight.copy_(support.apply(plain.weight))
    x = torch.randn(5, 12)
    torch.testing.assert_close(layer(x), plain(x))
    with torch.inference_mode():
        torch.testing.assert_close(layer(x), plain(x))
    assert layer.packed.layout == layout
    assert f"layout='{layout}'" in repr(layer)


@pytest.mark.parametrize("layout", EXACT)
def test_copies_and_state_keep_every_bit(layout: str) -> None:
    layer = PackedLinear(packed_for(layout, torch.bfloat16), torch.randn(6))
    x = torch.randn(4, 12)
    assert torch.equal(copy.deepcopy(layer)(x), layer(x))
    assert sorted(layer.state_dict()) == sorted([*layer.packed.parts, "bias"])

    torch.manual_seed(1)
    # How many values a tiled matrix stores depends on where they lie.
    support = held(layout, torch.rand(6, 12)) if layout != "tiled" else support_of(layer.packed)
    other = PackedLinear(pack(torch.randn(6, 12), support, layout, torch.bfloat16), torch.zeros(6))
    stream = io.BytesIO()
    torch.save(layer.state_dict(), stream)
    stream.seek(0)
    other.load_state_dict(torch.load(stream, weights_only=True))
    assert torch.equal(other(x), layer(x))


@pytest.mark.parametrize("layout", EXACT)
def test_autocast_leaves_it_as_it_is_and_may_stand_before_it(layout: str) -> None:
    layer, x = PackedLinear(packed_for(layout), torch.randn(6)), torch.randn(3, 12)
    before = torch.nn.Linear(12, 12)
    many = torch.randn(70, 12)
    outside = layer(x), layer(many)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert torch.equal(layer(x), outside[0])
        assert torch.equal(layer(many), outside[1])
        chained = layer(before(x))
        middle = before(x)
    assert middle.dtype == torch.bfloat16
    weight = unpack(layer.packed)
    torch.testing.assert_close(chained, middle.float() @ weight.t() + layer.bias)


def test_state_that_contradicts_itself_is_refused() -> None:
    layer = PackedLinear(packed_for("bitmask"))
    state = dict(layer.state_dict())
    state["bits"] = torch.zeros_like(state["bits"])
    x = torch.randn(2, 12)
    before = layer(x)
    with pytest.raises(SupportError, match="do not belong together"):
        layer.load_state_dict(state)
    # Half a state would let a kernel read beyond its parts.
    assert torch.equal(layer(x), before)
    more = dict(layer.state_dict(), values=torch.ones(70), bits=torch.full_like(layer.bits, 255))
    with pytest.raises(RuntimeError, match="size mismatch for values"):
        layer.load_state_dict(more)
    assert torch.equal(layer(x), before)
    del state["bits"]
    with pytest.raises(RuntimeError, match="Missing key"):
        layer.load_state_dict(state)
    assert torch.equal(layer(x), before)


@pytest.mark.parametrize("layout", EXACT)
@pytest.mark.parametrize("assign", [False, True])
def test_a_layer_without_memory_takes_a_state(layout: str, assign: bool) -> None:
    layer, x = PackedLinear(packed_for(layout), torch.randn(6)), torch.randn(2, 12)
    empty = copy.deepcopy(layer).to("meta")
    empty = empty if assign else empty.to_empty(device="cpu")
    empty.load_state_dict(layer.state_dict(), assign=assign)
    assert torch.equal(empty(x), layer(x))


def test_the_layer_follows_dtype_and_stays_right() -> None:
    layer = PackedLinear(packed_for("csr"), torch.randn(6)).to(torch.bfloat16)
    assert layer.packed.dtype == torch.bfloat16
    x = torch.randn(1, 12)
    y: Tensor = layer(x)
    wide = x.double() @ unpack(layer.packed).double().t() + layer.bias.double()
    torch.testing.assert_close(y.double(), wide, atol=1e-5, rtol=1e-5)
    assert layer(x.bfloat16()).dtype == torch.bfloat16


@pytest.mark.parametrize("layout", [name for name in LAYOUTS if name not in EXACT])
def test_scales_stay_what_they_are_in_a_model_of_another_width(layout: str) -> None:
    support = held(layout, torch.rand(6, 12))
    layer, x = PackedLinear(quantise(torch.randn(6, 12), support, layout)), torch.randn(2, 12)
    before = layer(x)
    assert torch.equal(layer.to(torch.bfloat16).to(torch.float32)(x), before)
    assert layer.half().scales.dtype == torch.float32
    PackedLinear(layer.packed)


def test_the_layer_is_frozen_unless_asked() -> None:
    layer = PackedLinear(packed_for("bitmask"), torch.randn(6))
    assert not layer(torch.randn(2, 12)).requires_grad
    layer.bias.requires_grad_()
    layer(torch.randn(2, 12)).sum().backward()
    assert torch.equal(layer.bias.grad, torch.full((6,), 2.0))


def test_building_a_layer_from_damaged_parts_fails() -> None:
    packed = packed_for("bitmask")
    parts = dict(packed.parts, values=packed.values[:-1])
    with pytest.raises(SupportError, match="do not belong together"):
        PackedLinear(Packed("bitmask", packed.shape, parts))
