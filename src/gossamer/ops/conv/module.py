"""PackedConv2d: nn.Conv2d on packed weights."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from gossamer.core import ConfigError, Support, UnsupportedError
from gossamer.layout import Packed, pack
from gossamer.ops.conv.function import run
from gossamer.ops.conv.window import FREE, POINT, Bounds, Window
from gossamer.ops.holder import PackedLayer


class PackedConv2d(PackedLayer):
    """``y = clamp(W * x + b)`` with W packed; the parts are buffers under their own names.

    Args:
        packed: the weight ``[out, in * kernel rows * kernel columns]``; its parts are checked
            and then shared, not copied.
        bias: ``[out]`` or None.
        window: kernel size, stride, padding and dilation.
        bounds: least and greatest output, so that a ReLU or ReLU6 behind it costs no pass.

    Raises:
        SupportError: the parts contradict one another.
        ConfigError: a window that does not fit the weight, or bounds out of order.

    >>> layer = PackedConv2d.from_conv(nn.Conv2d(8, 4, 3, padding=1), layout="csr")
    >>> layer(torch.ones(1, 8, 5, 5)).shape
    torch.Size([1, 4, 5, 5])
    """

    def __init__(
        self, packed: Packed, bias: Tensor | None = None, window: Window = POINT,
        bounds: Bounds = FREE,
    ) -> None:
        super().__init__(packed, bias)
        self.window, self.bounds = window.checked(), bounds
        if packed.shape[1] % window.places or not bounds[0] <= bounds[1]:
            raise ConfigError(
                f"A packed weight of {packed.shape} does not go with kernels of "
                f"{window.kernel} and bounds {bounds}."
            )
        self.out_channels, self.in_channels = packed.shape[0], packed.shape[1] // window.places

    @classmethod
    def from_conv(
        cls, conv: nn.Conv2d, support: Support | None = None, layout: str = "auto",
        dtype: torch.dtype | None = None, bounds: Bounds = FREE,
    ) -> PackedConv2d:
        """The layer for a convolution; support, layout and dtype as of `layout.pack`.

        Raises:
            UnsupportedError: a grouped (or depthwise) convolution, or one without zero padding.
        """
        window = window_of(conv)
        return cls(pack(conv.weight.flatten(1), support, layout, dtype), conv.bias, window, bounds)

    def forward(self, x: Tensor) -> Tensor:
        """``y = clamp(W * x + b)`` for x ``[batch, in, height, width]``."""
        parts, bias = self._operands()
        return run(x, parts, bias, self._form, self.window, self.bounds)

    def extra_repr(self) -> str:
        """Shape, window, layout, dtype and bytes."""
        return (
            f"{self.in_channels}, {self.out_channels}, kernel_size={self.window.kernel}, "
            f"stride={self.window.stride}, padding={self.window.padding}, "
            f"{self._shown()}, bounds={self.bounds}"
        )


def window_of(conv: nn.Conv2d) -> Window:
    """How a convolution goes over its image.

    Raises:
        UnsupportedError: it is grouped, or pads with something else than zeros.
    """
    if conv.groups != 1:
        raise UnsupportedError(
            f"A convolution of {conv.groups} groups stays dense: a packed one needs groups=1."
        )
    if conv.padding_mode != "zeros":
        raise UnsupportedError(
            f"A packed convolution pads with zeros, not by {conv.padding_mode!r}; pad before it."
        )
    kernel, stride, dilation = pair(conv.kernel_size), pair(conv.stride), pair(conv.dilation)
    if not isinstance(conv.padding, str):
        return Window(kernel, stride, pair(conv.padding), dilation)
    if conv.padding == "valid":
        return Window(kernel, stride, (0, 0), dilation)
    whole = [gap * (size - 1) for gap, size in zip(dilation, kernel)]
    if whole[0] % 2 or whole[1] % 2:
        raise UnsupportedError(
            f"padding='same' is uneven for a kernel of {kernel}; pad before the convolution."
        )
    return Window(kernel, stride, (whole[0] // 2, whole[1] // 2), dilation)


def pair(sizes: tuple[int, ...]) -> tuple[int, int]:
    """Both sizes."""
    down, along = sizes
    return down, along
