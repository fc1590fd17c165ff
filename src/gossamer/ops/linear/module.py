"""PackedLinear: nn.Linear on packed weights."""

from __future__ import annotations

import torch
from torch import Tensor

from gossamer.core import Support
from gossamer.layout import Packed, pack
from gossamer.ops.holder import PackedLayer
from gossamer.ops.linear.function import run


class PackedLinear(PackedLayer):
    """``y = x W^T + b`` with W packed; the parts are buffers under their own names.

    Args:
        packed: the weight ``[rows, cols]``; its parts are checked and then shared, not copied.
        bias: ``[rows]`` or None.
        trainable: whether values and bias are parameters that want gradients; where the values
            stand does not change.

    Raises:
        SupportError: the parts contradict one another.

    >>> layer = PackedLinear.from_linear(torch.eye(4), layout="bitmask")
    >>> layer(torch.ones(2, 4)).shape
    torch.Size([2, 4])
    """

    def __init__(self, packed: Packed, bias: Tensor | None = None,
                 trainable: bool = False) -> None:
        super().__init__(packed, bias, trainable)
        self.out_features, self.in_features = packed.shape

    @classmethod
    def from_linear(
        cls,
        weight: Tensor,
        bias: Tensor | None = None,
        support: Support | None = None,
        layout: str = "auto",
        dtype: torch.dtype | None = None,
    ) -> PackedLinear:
        """The layer for a dense weight ``[rows, cols]``; arguments as of `layout.pack`."""
        return cls(pack(weight, support, layout, dtype), bias)

    def forward(self, x: Tensor) -> Tensor:
        """``y = x W^T + b`` for x ``[..., cols]``."""
        parts, bias = self._operands()
        return run(x, parts, bias, self._form)

    def extra_repr(self) -> str:
        """Shape, layout, dtype and bytes."""
        return (f"in_features={self.in_features}, out_features={self.out_features}, "
                f"{self._shown()}")
