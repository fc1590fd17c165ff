"""How a kernel goes over an image, and the bounds of what comes out."""

from __future__ import annotations

import math
from typing import NamedTuple

from gossamer.core import ConfigError

Pair = tuple[int, int]
Bounds = tuple[float, float]

FREE: Bounds = (-math.inf, math.inf)
RELU: Bounds = (0.0, math.inf)
RELU6: Bounds = (0.0, 6.0)


class Window(NamedTuple):
    """Rows and columns of the kernel, and its stride, zero padding and dilation in both.

    >>> Window.square(3, stride=2, padding=1).out(7, 8)
    (4, 4)
    """

    kernel: Pair = (1, 1)
    stride: Pair = (1, 1)
    padding: Pair = (0, 0)
    dilation: Pair = (1, 1)

    @classmethod
    def square(cls, kernel: int, stride: int = 1, padding: int = 0, dilation: int = 1) -> Window:
        """The window that is alike in both directions.

        Raises:
            ConfigError: a size below one, or a negative padding.
        """
        return cls(*((n, n) for n in (kernel, stride, padding, dilation))).checked()

    def checked(self) -> Window:
        """The window itself.

        Raises:
            ConfigError: a size below one, or a negative padding.
        """
        if min(*self.kernel, *self.stride, *self.dilation) < 1 or min(self.padding) < 0:
            raise ConfigError(
                f"A convolution needs kernel, stride and dilation of at least 1 and padding of at "
                f"least 0, not {tuple(self)}."
            )
        return self

    @property
    def places(self) -> int:
        """Weights of the kernel for one channel."""
        return self.kernel[0] * self.kernel[1]

    @property
    def flat(self) -> list[int]:
        """The eight numbers in order."""
        return [*self[0], *self[1], *self[2], *self[3]]

    @classmethod
    def from_flat(cls, flat: list[int]) -> Window:
        """The window of `flat`."""
        return cls(*((flat[i], flat[i + 1]) for i in (0, 2, 4, 6)))

    def out(self, height: int, width: int) -> Pair:
        """Height and width of what comes out; below one where the image is too small."""
        (high, wide), (down, along), (above, left), (rows, columns) = self
        return ((height + 2 * above - rows * (high - 1) - 1) // down + 1,
                (width + 2 * left - columns * (wide - 1) - 1) // along + 1)


POINT = Window()
