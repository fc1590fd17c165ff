"""Computation on packed weights: a readable reference for each op, and kernels beside it."""

from gossamer.ops.conv import PackedConv2d, Window, conv2d
from gossamer.ops.linear import PackedLinear, explain, linear
from gossamer.ops.watch import fallbacks

__all__ = ["PackedConv2d", "PackedLinear", "Window", "conv2d", "explain", "fallbacks", "linear"]
