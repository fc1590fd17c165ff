"""DepthwiseConv2d: dense depthwise convolutions of images that keep one channel behind the other.

Packed 1x1 layers read and write images in this form; torch's depthwise convolutions turn it into
another one and back.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from gossamer import native
from gossamer.core import UnsupportedError
from gossamer.ops.conv.module import pair
from gossamer.ops.conv.window import FREE, Bounds, Window
from gossamer.ops.linear import cpu
from gossamer.ops.operands import torch_watches


class DepthwiseConv2d(nn.Module):
    """``y = clamp(w_c * x_c + b_c)`` for every channel c; weight and bias as nn.Conv2d has them.

    float32 on the CPU takes the compiled kernel; elsewhere, where a gradient is wanted and under
    torch.compile, torch's own convolution computes.

    Args:
        conv: a convolution with as many groups as channels in and out; its parameters are shared.
        bounds: least and greatest output, so that a ReLU or ReLU6 behind it costs no pass.

    Raises:
        UnsupportedError: another convolution, or padding that is not a number of zeros.

    >>> layer = DepthwiseConv2d(nn.Conv2d(4, 4, 3, padding=1, groups=4), (0.0, 6.0))
    >>> layer(torch.ones(1, 4, 5, 5)).shape
    torch.Size([1, 4, 5, 5])
    """

    def __init__(self, conv: nn.Conv2d, bounds: Bounds = FREE) -> None:
        super().__init__()
        if not conv.groups == conv.in_channels == conv.out_channels or (
                conv.padding_mode != "zeros" or isinstance(conv.padding, str)):
            raise UnsupportedError(
                f"A depthwise convolution has as many groups as channels and pads with a number "
                f"of zeros, unlike {conv}."
            )
        self.weight, self.bias, self.bounds = conv.weight, conv.bias, bounds
        self.window = Window(pair(conv.kernel_size), pair(conv.stride), pair(conv.padding),
                             pair(conv.dilation))

    def forward(self, x: Tensor) -> Tensor:
        """``[batch, channels, height', width']`` for x ``[batch, channels, height, width]``."""
        channels, window = self.weight.shape[0], self.window
        if x.dim() != 4 or x.shape[1] != channels or min(window.out(*x.shape[2:])) < 1:
            raise UnsupportedError(
                f"A depthwise convolution of {channels} channels and kernels of {window.kernel} "
                f"cannot take an input of shape {tuple(x.shape)}."
            )
        if torch_watches(x, self.weight, self.bias) or not self._covers(x):
            y = torch.conv2d(x, self.weight, self.bias, window.stride, window.padding,
                             window.dilation, channels)
            return y.clamp(*self.bounds)
        return self._compiled(x.contiguous())

    def _covers(self, x: Tensor) -> bool:
        tensors = (x, self.weight) if self.bias is None else (x, self.weight, self.bias)
        return native.core is not None and all(
            t.is_cpu and t.dtype is torch.float32 for t in tensors)

    def _compiled(self, x: Tensor) -> Tensor:
        images, channels, *size = x.shape
        out = self.window.out(*size)
        y = x.new_empty((images, channels, *out))
        weight = self.weight.contiguous()
        cpu.core().depthwise2d(
            x.data_ptr(), weight.data_ptr(), 0 if self.bias is None else self.bias.data_ptr(),
            y.data_ptr(), (images, channels), (*size, *self.window.flat, *out), self.bounds,
            torch.get_num_threads(),
        )
        return y

    def extra_repr(self) -> str:
        """Channels, kernel and stride."""
        return (f"{self.weight.shape[0]}, kernel_size={self.window.kernel}, "
                f"stride={self.window.stride}, padding={self.window.padding}, "
                f"bounds={self.bounds}")
