"""conv2d against torch's dense convolution in float64, and PackedConv2d as a citizen of torch."""

from __future__ import annotations

import copy
import io
import math
from collections.abc import Iterator

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from gossamer import native
from gossamer.core import (
    ConfigError,
    Keep,
    Support,
    SupportError,
    UnsupportedError,
    block,
    channel_groups,
    nm,
    rows,
    select,
)
from gossamer.layout import LAYOUTS, Packed, pack, unpack
from gossamer.ops.conv import (
    FREE,
    RELU,
    RELU6,
    DepthwiseConv2d,
    Kernel,
    PackedConv2d,
    Window,
    conv2d,
    explain,
    fallbacks,
    register,
    window_of,
)
from gossamer.ops.conv.op import packed_conv2d
from gossamer.ops.linear.form import parts_of
from gossamer.testing.op import _poisoned_memory
from tests.held import held

FLOAT, HALF = torch.float32, torch.bfloat16
ISAS = native.isas() or ["absent"]
Case = tuple[Tensor, Packed, Tensor | None, Window, tuple[float, float]]


@pytest.fixture(params=ISAS)
def isa(request: pytest.FixtureRequest) -> Iterator[str]:
    before = native.isa()
    if native.core is not None:
        native.set_isa(request.param)
    yield request.param
    if native.core is not None:
        native.set_isa(before)


def dense(x: Tensor, packed: Packed, bias: Tensor | None, window: Window) -> Tensor:
    """The convolution in float64 from the dense weight, without clamping."""
    weight = unpack(packed).double().view(packed.shape[0], -1, *window.kernel)
    return torch.conv2d(x.double(), weight, None if bias is None else bias.double(), *window[1:])


def assert_right(case: Case) -> None:
    x, packed, bias, window, bounds = case
    with _poisoned_memory():
        got = conv2d(x, packed, bias, window, bounds)
    right = dense(x, packed, bias, window)
    shown = pack(unpack(packed).abs(), layout="dense")
    size = dense(x.abs(), shown, None if bias is None else bias.abs(), window) + 1e-6
    assert got.shape == right.shape
    assert bool(((got.double() - right.clamp(*bounds)).abs() <= 3e-6 * size).all())


@st.composite
def cases(draw: st.DrawFn) -> Case:
    layout = draw(st.sampled_from(["csr", "condensed", "bitmask", "nm"]))
    pairs = st.tuples(st.integers(1, 3), st.integers(1, 3))
    window = Window()
    if not draw(st.booleans()):
        window = Window(draw(pairs), draw(pairs), draw(st.tuples(*[st.integers(0, 3)] * 2)),
                        draw(pairs))
    out, channels = draw(st.integers(1, 20)), draw(st.integers(1, 24))
    size = [draw(st.integers(max(1, 1 + gap * (kernel - 1) - 2 * pad), 13)) for kernel, pad, gap in
            zip(window.kernel, window.padding, window.dilation)]
    torch.manual_seed(draw(st.integers(0, 1 << 30)))
    score = torch.rand(out, channels * window.places)
    support = Support.of(score < draw(st.sampled_from([0.0, 0.1, 0.5, 1.0])))
    if layout == "condensed":
        support = select(score, rows(), Keep.count(draw(st.integers(0, score.shape[1]))))
    if layout == "nm":
        support = select(score, nm(1, score.shape[1]))
    packed = pack(torch.randn(score.shape), support, layout, draw(st.sampled_from([FLOAT, HALF])))
    bias = torch.randn(out) if draw(st.booleans()) else None
    x = torch.randn(draw(st.integers(1, 3)), channels, *size)
    return x, packed, bias, window, draw(st.sampled_from([FREE, RELU, RELU6, (-0.5, 0.25)]))


@pytest.mark.parametrize("name", ISAS)
@given(case=cases())
@settings(max_examples=150, deadline=None)
def test_every_convolution_equals_the_dense_one(name: str, case: Case) -> None:
    before = native.isa()
    if native.core is not None:
        native.set_isa(name)
    assert_right(case)
    if native.core is not None:
        native.set_isa(before)


@pytest.mark.parametrize("side", [1, 2, 3, 7, 8, 14, 15, 28, 57])
def test_maps_of_any_side_with_rows_of_any_fill(isa: str, side: int) -> None:
    mask = torch.rand(70, 130) < torch.linspace(0, 1, 70)[:, None] ** 3
    mask[4], mask[5], mask[-1] = False, True, False
    packed = pack(torch.randn(70, 130), Support.of(mask), "csr")
    assert_right((torch.randn(2, 130, side, side), packed, torch.randn(70), Window(), RELU))


def test_many_outputs_and_channels(isa: str) -> None:
    support = Support.of(torch.rand(300, 700) < 0.1)
    packed = pack(torch.randn(300, 700), support, "csr")
    assert_right((torch.randn(1, 700, 7, 7), packed, None, Window(), FREE))


@pytest.mark.parametrize("layout", [name for name in LAYOUTS if "int" not in name])
def test_every_layout_computes(layout: str) -> None:
    packed = pack(torch.randn(8, 36), held(layout, torch.rand(8, 36)), layout)
    x = torch.randn(2, 4, 6, 5)
    assert_right((x, packed, torch.randn(8), Window.square(3, padding=1), RELU6))


def test_threads_do_not_change_a_bit(isa: str) -> None:
    packed = pack(torch.randn(90, 160), Support.of(torch.rand(90, 160) < 0.1), "csr")
    before, x, results = torch.get_num_threads(), torch.randn(3, 160, 9, 9), []
    for threads in (1, 2, 5):
        torch.set_num_threads(threads)
        results.append(conv2d(x, packed))
    torch.set_num_threads(before)
    assert torch.equal(results[0], results[1])
    assert torch.equal(results[0], results[2])


def test_a_matrix_of_zeros_gives_the_bias(isa: str) -> None:
    bias = torch.randn(5)
    for layout in ("csr", "condensed", "bitmask"):
        y = conv2d(torch.randn(2, 3, 4, 4), pack(torch.zeros(5, 3), layout=layout), bias)
        assert torch.equal(y, bias[None, :, None, None].expand(2, 5, 4, 4))


def test_what_is_empty_stays_empty(isa: str) -> None:
    packed = pack(torch.randn(5, 3), layout="csr")
    assert conv2d(torch.randn(0, 3, 4, 4), packed).shape == (0, 5, 4, 4)
    assert conv2d(torch.randn(1, 3, 2, 2), pack(torch.zeros(0, 3), layout="csr")).shape[1] == 0


def test_a_not_a_number_stays_where_its_channel_goes(isa: str) -> None:
    weight = torch.zeros(3, 4)
    weight[0, 1], weight[1, 2] = 1.0, 1.0
    x = torch.ones(1, 4, 5, 5)
    x[0, 1, 2, 3] = math.nan
    y = conv2d(x, pack(weight, layout="csr"), bounds=RELU6)
    assert bool(y[0, 0, 2, 3].isnan())
    assert int(y.isnan().sum()) == 1


def test_other_memory_formats_are_copied_and_named(isa: str) -> None:
    packed = pack(torch.randn(5, 6), layout="csr")
    x = torch.randn(2, 6, 4, 3)
    last = x.to(memory_format=torch.channels_last)
    assert torch.equal(conv2d(last, packed), conv2d(x, packed))
    assert torch.equal(conv2d(torch.randn(2, 12, 4, 3)[:, ::2] * 0 + x, packed), conv2d(x, packed))
    if native.core is not None:
        assert "copy" in explain(last, packed)
        assert "copy" not in explain(x, packed)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float16])
def test_other_dtypes_take_the_reference(dtype: torch.dtype) -> None:
    packed = pack(torch.randn(5, 12), layout="csr", dtype=dtype)
    x = torch.randn(1, 3, 4, 4, dtype=dtype)
    window = Window.square(2)
    torch.testing.assert_close(conv2d(x, packed, None, window).double(),
                               dense(x, packed, None, window), rtol=4e-3, atol=4e-3)
    with fallbacks() as seen:
        conv2d(x, packed, None, window)
    assert explain(x, packed, window).startswith("reference")
    assert sum(seen.values()) == 1


def test_a_kernel_of_the_user_comes_first() -> None:
    packed, x = pack(torch.eye(3), layout="csr"), torch.ones(1, 3, 2, 2)
    own = Kernel("own", ("csr",), lambda x, parts, form, window: None,
                 lambda x, *rest: x + 1, lambda x, form, window: "own")
    with register(own):
        assert explain(x, packed) == "own"
        assert torch.equal(conv2d(x, packed), x + 1)
    assert torch.equal(conv2d(x, packed), x)


@pytest.mark.parametrize("group", [2, 3, 4, 6, 8])
@pytest.mark.parametrize("layout", ["bsr", "channel_groups"])
def test_rows_that_share_their_columns(isa: str, layout: str, group: int) -> None:
    high = 48 if layout == "bsr" else 45  # the last of channel groups may be cut
    pattern = block(group, 1) if layout == "bsr" else channel_groups(group)
    weight = torch.randn(48, 30)
    keep = Keep.fraction(0.3)
    mask = select(weight.abs(), pattern, keep).mask()
    packed = pack(weight, Support.of(mask, pattern), layout)
    if high == 45:
        shape = (45, 30)
        packed = Packed(layout, shape, packed.parts) if 48 // group == -(-45 // group) else packed
    for side in (2, 7, 13, 20):
        x = torch.randn(2, 30, side, side)
        case = (x, packed, torch.randn(packed.shape[0]), Window(), RELU)
        assert explain(x, packed).startswith(native.isa() if native.core else "reference")
        assert_right(case)
    assert_right((torch.randn(1, 10, 9, 5), pack(torch.randn(48, 30)[:, :30], Support.of(mask,
                 pattern), layout), None, Window((3, 1), (2, 1)), FREE))


@pytest.mark.parametrize("layout", ["csr", "bitmask", "dense"])
def test_gradients_equal_those_of_the_dense_convolution(layout: str) -> None:
    window = Window((3, 2), (2, 1), (1, 0), (1, 2))
    packed = pack(torch.randn(6, 24), held(layout, torch.rand(6, 24)), layout)
    packed.values.requires_grad_()
    x, bias = torch.randn(2, 4, 7, 6, requires_grad=True), torch.randn(6, requires_grad=True)
    y = conv2d(x, packed, bias, window, RELU)
    push = torch.randn(y.shape)
    (y * push).sum().backward()
    weight = unpack(packed).detach().double().requires_grad_()
    x2, bias2 = x.detach().double().requires_grad_(), bias.detach().double().requires_grad_()
    y2 = torch.relu(torch.conv2d(x2, weight.view(6, 4, 3, 2), bias2, *window[1:]))
    (y2 * push.double()).sum().backward()
    torch.testing.assert_close(x.grad.double(), x2.grad, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(bias.grad.double(), bias2.grad, rtol=1e-4, atol=1e-4)
    kept = unpack(Packed(layout, packed.shape, dict(packed.parts, values=packed.values.grad)))
    mask = unpack(packed) != 0
    torch.testing.assert_close(kept.double(), torch.where(mask, weight.grad, 0), rtol=1e-4,
                               atol=1e-4)


def test_the_operator_passes_torchs_own_check() -> None:
    packed = pack(torch.randn(4, 12), layout="csr")
    packed.values.requires_grad_()
    x = torch.randn(1, 3, 4, 5, requires_grad=True)
    torch.library.opcheck(packed_conv2d, (
        x, list(parts_of(packed)), torch.randn(4), "csr", [4, 12], Window.square(2).flat,
        list(RELU)))


@pytest.mark.parametrize("padding", [0, 1, "same", "valid"])
def test_the_layer_equals_nn_conv2d(padding: int | str) -> None:
    conv = nn.Conv2d(6, 8, 3, padding=padding, dilation=2)
    support = Support.of(torch.rand(8, 54) < 0.3)
    layer = PackedConv2d.from_conv(conv, support, "csr", bounds=RELU)
    with torch.no_grad():
        conv.weight.copy_(support.apply(conv.weight.flatten(1)).view_as(conv.weight))
    x = torch.randn(2, 6, 9, 8)
    torch.testing.assert_close(layer(x), torch.relu(conv(x)), rtol=1e-4, atol=1e-5)
    with torch.inference_mode():
        torch.testing.assert_close(layer(x), torch.relu(conv(x)), rtol=1e-4, atol=1e-5)
    assert "layout='csr'" in repr(layer)
    assert not layer(x).requires_grad


def test_the_layer_compiles_whole() -> None:
    torch.compiler.reset()
    conv = nn.Conv2d(4, 6, 3, stride=2, padding=1)
    layer = PackedConv2d.from_conv(conv, layout="bitmask", bounds=RELU6)
    compiled = torch.compile(layer, fullgraph=True, backend="aot_eager")
    x = torch.randn(2, 4, 7, 7)
    assert torch.equal(compiled(x), layer(x))
    a, b = x.clone().requires_grad_(), x.clone().requires_grad_()
    compiled(a).sum().backward()
    layer(b).sum().backward()
    assert torch.equal(a.grad, b.grad)


def test_copies_and_state_keep_every_bit() -> None:
    conv = nn.Conv2d(4, 6, 1)
    layer = PackedConv2d.from_conv(conv, Support.of(torch.rand(6, 4) < 0.5), "bitmask")
    x = torch.randn(1, 4, 3, 3)
    assert torch.equal(copy.deepcopy(layer)(x), layer(x))
    assert sorted(layer.state_dict()) == ["bias", "bits", "values"]
    other = copy.deepcopy(layer)
    other.values.zero_()
    stream = io.BytesIO()
    torch.save(layer.state_dict(), stream)
    stream.seek(0)
    other.load_state_dict(torch.load(stream, weights_only=True))
    assert torch.equal(other(x), layer(x))
    state = dict(layer.state_dict(), bits=torch.zeros_like(layer.bits))
    with pytest.raises(SupportError, match="do not belong together"):
        other.load_state_dict(state)


def test_bad_input_is_one_clear_sentence() -> None:
    packed = pack(torch.randn(4, 12), layout="csr")
    with pytest.raises(UnsupportedError, match=r"\[batch, 12, height, width\]"):
        conv2d(torch.randn(1, 3, 4, 4), packed)
    with pytest.raises(UnsupportedError, match="int64"):
        conv2d(torch.ones(1, 12, 2, 2, dtype=torch.int64), packed)
    with pytest.raises(UnsupportedError, match="no multiple of 9"):
        conv2d(torch.randn(1, 3, 4, 4), packed, None, Window.square(3))
    with pytest.raises(UnsupportedError, match="too small"):
        conv2d(torch.randn(1, 3, 1, 4), packed, None, Window.square(2))
    with pytest.raises(UnsupportedError, match=r"bias of shape \(4,\)"):
        conv2d(torch.randn(1, 12, 1, 4), packed, torch.randn(5))
    with pytest.raises(UnsupportedError, match="meta"):
        conv2d(torch.randn(1, 12, 1, 4, device="meta"), packed)
    with pytest.raises(ConfigError, match="in order"):
        conv2d(torch.randn(1, 12, 1, 4), packed, bounds=(1.0, 0.0))
    with pytest.raises(ConfigError, match="at least 1"):
        Window.square(0)
    with pytest.raises(UnsupportedError, match="4 groups stays dense"):
        PackedConv2d.from_conv(nn.Conv2d(4, 4, 3, groups=4))
    with pytest.raises(UnsupportedError, match="'reflect'"):
        PackedConv2d.from_conv(nn.Conv2d(4, 4, 3, padding=1, padding_mode="reflect"))
    with pytest.raises(UnsupportedError, match="uneven"):
        PackedConv2d.from_conv(nn.Conv2d(4, 4, 2, padding="same"))
    with pytest.raises(ConfigError, match="does not go with"):
        PackedConv2d(packed, window=Window.square(5))


@pytest.mark.parametrize("name", ISAS)
@given(data=st.data())
@settings(max_examples=80, deadline=None)
def test_depthwise_convolutions_equal_torchs(name: str, data: st.DataObject) -> None:
    pairs = st.tuples(st.integers(1, 3), st.integers(1, 3))
    kernel, stride, dilation = (data.draw(pairs) for _ in range(3))
    padding = data.draw(st.tuples(st.integers(0, 3), st.integers(0, 3)))
    size = [data.draw(st.integers(max(1, 1 + gap * (side - 1) - 2 * pad), 20))
            for side, pad, gap in zip(kernel, padding, dilation)]
    torch.manual_seed(data.draw(st.integers(0, 1 << 30)))
    conv = nn.Conv2d(5, 5, kernel, stride, padding, dilation, groups=5, bias=data.draw(
        st.booleans()))
    x = torch.randn(2, 5, *size)
    before = native.isa()
    if native.core is not None:
        native.set_isa(name)
    with torch.inference_mode(), _poisoned_memory():
        got = DepthwiseConv2d(conv, RELU6)(x)
    if native.core is not None:
        native.set_isa(before)
    with torch.no_grad():
        wanted = conv.double()(x.double()).clamp(0, 6)
    torch.testing.assert_close(got.double(), wanted, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize(("height", "width"), [
    (1, 1), (2, 3), (4, 7), (5, 8), (7, 7), (14, 14), (9, 17), (3, 33), (70, 60), (5, 300)])
def test_depthwise_windows_of_three_write_their_maps_and_nothing_else(
    isa: str, stride: int, height: int, width: int
) -> None:
    torch.manual_seed(height)
    conv = nn.Conv2d(3, 3, 3, stride, 1, groups=3)
    x, window = torch.randn(2, 3, height, width), window_of(nn.Conv2d(1, 1, 3, stride, 1))
    wanted = conv.double()(x.double()).detach()
    conv.float()
    y = torch.full((wanted.numel() + 64,), 7.0)
    native.core.depthwise2d(
        x.data_ptr(), conv.weight.data_ptr(), conv.bias.data_ptr(), y.data_ptr(), (2, 3),
        (height, width, *window.flat, *wanted.shape[2:]), FREE, 1)
    got = y[: wanted.numel()].view_as(wanted)
    torch.testing.assert_close(got.double(), wanted, rtol=1e-5, atol=1e-5)
    assert bool((y[wanted.numel() :] == 7).all())


def test_depthwise_layers_train_compile_and_refuse() -> None:
    conv = nn.Conv2d(4, 4, 3, padding=1, groups=4)
    layer, x = DepthwiseConv2d(conv, RELU), torch.randn(2, 4, 6, 7)
    wanted = torch.relu(conv(x))
    torch.testing.assert_close(layer(x), wanted)
    layer(x).sum().backward()
    assert conv.weight.grad is not None
    torch.compiler.reset()
    compiled = torch.compile(layer, fullgraph=True, backend="aot_eager")
    torch.testing.assert_close(compiled(x), wanted)
    assert sorted(layer.state_dict()) == ["bias", "weight"]
    with torch.inference_mode():
        last = x.to(memory_format=torch.channels_last)
        torch.testing.assert_close(copy.deepcopy(layer)(last), wanted)
        torch.testing.assert_close(layer.double()(x.double()), wanted.double())
    with pytest.raises(UnsupportedError, match="cannot take an input"):
        layer(torch.randn(1, 3, 6, 6))
    with pytest.raises(UnsupportedError, match="as many groups as channels"):
        DepthwiseConv2d(nn.Conv2d(4, 8, 3, groups=4))
