"""conv2d: convolutions of images with a packed weight."""

from gossamer.ops.conv.depthwise import DepthwiseConv2d
from gossamer.ops.conv.function import conv2d, explain
from gossamer.ops.conv.kernels import Kernel, fallbacks, register
from gossamer.ops.conv.module import PackedConv2d, window_of
from gossamer.ops.conv.window import FREE, RELU, RELU6, Bounds, Window

__all__ = ["FREE", "RELU", "RELU6", "Bounds", "DepthwiseConv2d", "Kernel", "PackedConv2d", "Window",
           "conv2d", "explain", "fallbacks", "register", "window_of"]
