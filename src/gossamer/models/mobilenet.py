"""MobileNet-v1: depthwise and 1x1 convolutions in turn, for images of any size.

Howard et al., "MobileNets: Efficient Convolutional Neural Networks for Mobile Vision Applications",
2017, arXiv 1704.04861.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

from gossamer.core import ConfigError

# Outputs and stride of every pair, at width 1.
IMAGENET: tuple[tuple[int, int], ...] = (
    (64, 1), (128, 2), (128, 1), (256, 2), (256, 1), (512, 2), (512, 1), (512, 1), (512, 1),
    (512, 1), (512, 1), (1024, 2), (1024, 1),
)
SMALL: tuple[tuple[int, int], ...] = ((32, 1), (64, 2), (64, 1), (128, 2), (128, 1))


class Layer(nn.Module):
    """``relu6(norm(conv(x)))``; without the norm once it is folded into the convolution.

    A packed convolution clamps its own output where its bounds say so, and relu6 is left out.
    """

    def __init__(self, conv: nn.Conv2d) -> None:
        super().__init__()
        self.conv = conv
        self.norm: nn.Module = nn.BatchNorm2d(conv.out_channels)

    def forward(self, x: Tensor) -> Tensor:
        """``[batch, out, height', width']``."""
        y: Tensor = self.norm(self.conv(x))
        if getattr(self.conv, "bounds", None) == (0.0, 6.0):
            return y
        return nn.functional.relu6(y, inplace=not torch.is_grad_enabled())


class Pair(nn.Sequential):
    """A depthwise 3x3 layer and a 1x1 layer."""

    def __init__(self, channels: int, out: int, stride: int) -> None:
        depthwise = nn.Conv2d(channels, channels, 3, stride, 1, groups=channels, bias=False)
        super().__init__()
        self.depthwise = Layer(depthwise)
        self.pointwise = Layer(nn.Conv2d(channels, out, 1, bias=False))


class MobileNet(nn.Module):
    """A dense 3x3 layer, pairs of depthwise and 1x1 layers, the mean, and a linear classifier.

    Args:
        classes: outputs of the classifier.
        width: factor of all channel counts, which stay multiples of 8.
        pairs: outputs and stride of every pair at width 1.
        channels: of the images.
        stride: of the first layer.

    Raises:
        ConfigError: a width, or number of classes, that is not positive.

    >>> MobileNet(10, 0.5, SMALL, channels=1, stride=1)(torch.zeros(2, 1, 32, 32)).shape
    torch.Size([2, 10])
    """

    def __init__(
        self, classes: int = 1000, width: float = 1.0,
        pairs: Sequence[tuple[int, int]] = IMAGENET, channels: int = 3, stride: int = 2,
    ) -> None:
        super().__init__()
        if classes < 1 or not width > 0:
            raise ConfigError(f"A MobileNet needs classes and a width above zero, not {classes}, "
                              f"{width}.")
        first = scaled(32, width)
        self.stem = Layer(nn.Conv2d(channels, first, 3, stride, 1, bias=False))
        layers, before = [], first
        for out, step in pairs:
            layers.append(Pair(before, scaled(out, width), step))
            before = scaled(out, width)
        self.pairs = nn.Sequential(*layers)
        self.classifier = nn.Linear(before, classes)

    def forward(self, x: Tensor) -> Tensor:
        """``[batch, classes]`` for images ``[batch, channels, height, width]``."""
        y: Tensor = self.pairs(self.stem(x))
        scores: Tensor = self.classifier(y.mean((2, 3)))
        return scores


def scaled(channels: int, width: float) -> int:
    """The nearest multiple of 8 to so many times the channels, at least 8."""
    return max(8, round(channels * width / 8) * 8)


def fold_batchnorm(model: MobileNet) -> MobileNet:
    """The same model with every normalisation folded into its convolution, in eval mode.

    Changes the model in place; what it computes in eval mode stays the same but for rounding.

    >>> model = MobileNet(10, 0.5, SMALL, channels=1).eval()
    >>> x = torch.randn(1, 1, 16, 16)
    >>> before = model(x)
    >>> bool(torch.allclose(fold_batchnorm(model)(x), before, atol=1e-4))
    True
    """
    model.eval()
    for layer in model.modules():
        if isinstance(layer, Layer) and isinstance(layer.norm, nn.BatchNorm2d):
            layer.conv = fuse_conv_bn_eval(layer.conv, layer.norm)
            layer.norm = nn.Identity()
    return model
