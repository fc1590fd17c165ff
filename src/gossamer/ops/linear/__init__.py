"""linear: y = x W^T + b with W packed."""

from gossamer.ops.linear.function import explain, linear
from gossamer.ops.linear.kernels import Kernel, fallbacks, register
from gossamer.ops.linear.module import PackedLinear

__all__ = ["Kernel", "PackedLinear", "explain", "fallbacks", "linear", "register"]
