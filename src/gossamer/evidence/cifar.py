"""CIFAR-10 images and a trained ResNet-20, from a folder of the user's.

Krizhevsky, "Learning multiple layers of features from tiny images", 2009; He, Zhang, Ren, Sun,
"Deep residual learning for image recognition", CVPR 2016.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from gossamer.core import DataError

_MEAN, _STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
_FILES = ("cifar10.npz", "resnet20-12fca82f.th")


class Block(nn.Module):
    """Two 3x3 convolutions beside a shortcut that drops pixels and pads channels with zeros."""

    def __init__(self, before: int, width: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(before, width, 3, stride, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        self.conv2 = nn.Conv2d(width, width, 3, 1, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(width)
        self.stride, self.more = stride, width - before

    def forward(self, x: Tensor) -> Tensor:
        """``[batch, width, height', width']``."""
        y = self.bn2(self.conv2(torch.relu(self.bn1(self.conv1(x)))))
        if self.stride > 1 or self.more:
            sides = (0, 0, 0, 0, self.more // 2, self.more - self.more // 2)
            x = nn.functional.pad(x[:, :, :: self.stride, :: self.stride], sides)
        return torch.relu(y + x)


class ResNet20(nn.Module):
    """The residual net of 20 layers for images of 32x32 pixels."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1, self.bn1 = nn.Conv2d(3, 16, 3, 1, 1, bias=False), nn.BatchNorm2d(16)
        self.layer1 = nn.Sequential(*(Block(16, 16, 1) for _ in range(3)))
        self.layer2 = nn.Sequential(Block(16, 32, 2), Block(32, 32, 1), Block(32, 32, 1))
        self.layer3 = nn.Sequential(Block(32, 64, 2), Block(64, 64, 1), Block(64, 64, 1))
        self.linear = nn.Linear(64, 10)

    def forward(self, x: Tensor) -> Tensor:
        """``[batch, 10]`` for images ``[batch, 3, 32, 32]``."""
        y = torch.relu(self.bn1(self.conv1(x)))
        y = self.layer3(self.layer2(self.layer1(y)))
        scores: Tensor = self.linear(y.mean((2, 3)))
        return scores


def folder_of(data: Path | None) -> Path | None:
    """The folder with the images and the net, which ``data`` is or holds as ``cifar10``."""
    for folder in () if data is None else (data, data / "cifar10"):
        if all((folder / name).exists() for name in _FILES):
            return folder
    return None


def images(folder: Path, part: str) -> tuple[Tensor, Tensor]:
    """Images ``[n, 3, 32, 32]``, normalised, and labels ``[n]`` of the part train or test."""
    try:
        with np.load(folder / _FILES[0]) as held:
            pixels, labels = held[f"{part}_images"], held[f"{part}_labels"]
    except (OSError, KeyError, ValueError) as error:
        raise DataError(f"{folder / _FILES[0]} cannot be read ({error}); it must hold "
                        f"{part}_images and {part}_labels.") from error
    x = torch.from_numpy(pixels).permute(0, 3, 1, 2).float() / 255
    mean, std = torch.tensor(_MEAN).view(3, 1, 1), torch.tensor(_STD).view(3, 1, 1)
    return ((x - mean) / std).contiguous(), torch.from_numpy(labels).long().flatten()


def trained(folder: Path) -> ResNet20:
    """The trained net, in eval mode."""
    held = torch.load(folder / _FILES[1], weights_only=True, map_location="cpu")["state_dict"]
    net = ResNet20()
    net.load_state_dict({name.removeprefix("module."): value for name, value in held.items()})
    return net.eval()
