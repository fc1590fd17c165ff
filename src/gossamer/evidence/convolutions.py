"""Times of packed 1x1 convolutions on this CPU, one thread, against torch's dense float32."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn

from gossamer.core import Keep, block, channel_groups, select, unstructured
from gossamer.layout import unpack
from gossamer.ops import PackedConv2d

Shape = tuple[int, int, int]
Call = Callable[[], Tensor]

# Pixels, inputs, outputs of 1x1 layers of MobileNet-v2, then of MobileNet-v1.
SHAPES = ((3136, 24, 144), (784, 192, 32), (196, 384, 64), (196, 576, 96), (49, 960, 160),
          (3136, 128, 128), (784, 256, 256), (196, 512, 512), (49, 1024, 1024))
_ROUNDS = 25


def pruned(conv: nn.Conv2d, share: float, rows: int) -> PackedConv2d:
    """The layer with so large a share of its weights pruned, by blocks of so many rows."""
    score = conv.weight.detach().flatten(1).abs()
    pattern = unstructured() if rows == 1 else block(rows, 1)
    support = select(score, pattern, Keep.fraction(1 - share))
    return PackedConv2d.from_conv(conv, support, "csr" if rows == 1 else "bsr")


def worst_error(seed: int) -> float:
    """Greatest error of packed layers against float64, relative to the sum of their terms."""
    worst = 0.0
    generator = torch.Generator().manual_seed(seed)
    for pixels, inputs, outputs in SHAPES:
        side = int(pixels**0.5)
        conv = nn.Conv2d(inputs, outputs, 1, bias=False)
        x = torch.randn(1, inputs, side, side, generator=generator)
        for rows in (1, 2, 4):
            layer = pruned(conv, 0.9, rows)
            weight, flat = unpack(layer.packed).double(), x.double().flatten(2)[0]
            size = weight.abs() @ flat.abs() + 1e-6
            off = (layer(x).double().flatten(2)[0] - weight @ flat).abs() / size
            worst = max(worst, float(off.max()))
    return worst


def layer_times(seed: int) -> dict[str, dict[str, float]]:
    """Least microseconds of each contender in turn, on one thread, in its CPU time."""

    def pruned_calls(conv: nn.Conv2d, x: Tensor) -> dict[str, Call]:
        return {f"{share:.0%} pruned, {rows} rows": _call(pruned(conv, share, rows), x)
                for share, rows in ((0.8, 1), (0.9, 1), (0.9, 2), (0.9, 4))}

    return _all_times(seed, SHAPES, pruned_calls)


def group_times(
    seed: int, shapes: Sequence[Shape], size: int
) -> dict[str, dict[str, float]]:
    """The same of layers whose groups of outputs share inputs, and of single weights at 30 %."""

    def grouped_calls(conv: nn.Conv2d, x: Tensor) -> dict[str, Call]:
        score = conv.weight.detach().flatten(1).abs()
        found = {}
        for percent in (0, 30, 50, 70):
            support = select(score, channel_groups(size), Keep.fraction(1 - percent / 100))
            layer = PackedConv2d.from_conv(conv, support, "channel_groups")
            found[f"groups, {percent}%"] = _call(layer, x)
        return {**found, "single weights, 30%": _call(pruned(conv, 0.3, 1), x)}

    return _all_times(seed, shapes, grouped_calls)


def _all_times(
    seed: int, shapes: Sequence[Shape], packed: Callable[[nn.Conv2d, Tensor], dict[str, Call]]
) -> dict[str, dict[str, float]]:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        with torch.random.fork_rng(devices=[]), torch.inference_mode():
            torch.manual_seed(seed)
            return {f"{shape[0]} {shape[1]}->{shape[2]}": _times(shape, packed) for shape in shapes}
    finally:
        torch.set_num_threads(threads)


def _times(
    shape: Shape, packed: Callable[[nn.Conv2d, Tensor], dict[str, Call]]
) -> dict[str, float]:
    pixels, inputs, outputs = shape
    side = int(pixels**0.5)
    conv, x = nn.Conv2d(inputs, outputs, 1, bias=False), torch.randn(1, inputs, side, side)
    weight, last = conv.weight.flatten(1), x.to(memory_format=torch.channels_last)
    other = conv.weight.to(memory_format=torch.channels_last)
    calls: dict[str, Call] = {
        "dense": lambda: torch.conv2d(x, conv.weight),
        "dense, channels last": lambda: torch.conv2d(last, other),
        "dense, matrix product": lambda: weight @ x.flatten(2)[0],
        **packed(conv, x),
    }
    least = dict.fromkeys(calls, float("inf"))
    names = list(calls)
    for turn in range(_ROUNDS):
        start = turn % len(names)
        for name in names[start:] + names[:start]:
            begun = time.process_time()
            calls[name]()
            least[name] = min(least[name], time.process_time() - begun)
    return {name: round(1e6 * seconds, 1) for name, seconds in least.items()}


def _call(layer: PackedConv2d, x: Tensor) -> Call:
    return lambda: layer(x)
