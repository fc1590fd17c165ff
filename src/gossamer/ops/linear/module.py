"""PackedLinear: nn.Linear on packed weights."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from gossamer.core import Support
from gossamer.layout import Packed, check_packed, layout_of, pack
from gossamer.ops.linear.form import form_of
from gossamer.ops.linear.function import run


class PackedLinear(nn.Module):
    """``y = x W^T + b`` with W packed; the parts are buffers under their own names.

    Args:
        packed: the weight ``[rows, cols]``; its parts are checked and then shared, not copied.
        bias: ``[rows]`` or None.

    Raises:
        SupportError: the parts contradict one another.

    >>> layer = PackedLinear.from_linear(torch.eye(4), layout="bitmask")
    >>> layer(torch.ones(2, 4)).shape
    torch.Size([2, 4])
    """

    starts: Tensor | None

    def __init__(self, packed: Packed, bias: Tensor | None = None) -> None:
        super().__init__()
        check_packed(packed)
        self.layout = packed.layout
        self.out_features, self.in_features = packed.shape
        self._names = layout_of(packed.layout).parts
        for name in self._names:
            self.register_buffer(name, packed.parts[name])
        self.register_buffer("starts", packed.starts, persistent=False)
        frozen = None if bias is None else nn.Parameter(bias.detach(), requires_grad=False)
        self.register_parameter("bias", frozen)
        starts = () if packed.starts is None else ("starts",)
        self._arguments = (*self._names, *starts)
        self._form = form_of(packed.values, packed.layout, packed.shape)

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

    @property
    def packed(self) -> Packed:
        """The weight as a Packed that shares this layer's buffers."""
        parts = {name: self._buffers[name] for name in self._names}
        tensors = {name: part for name, part in parts.items() if part is not None}
        return Packed(self.layout, (self.out_features, self.in_features), tensors)

    def forward(self, x: Tensor) -> Tensor:
        """``y = x W^T + b`` for x ``[..., cols]``."""
        # Attribute access on a Module costs a microsecond, so the buffers are read from their dict.
        buffers: Any = self._buffers
        parts = tuple([buffers[name] for name in self._arguments])
        return run(x, parts, self._parameters["bias"], self._form)

    def extra_repr(self) -> str:
        """Shape, layout, dtype and bytes."""
        return (
            f"in_features={self.in_features}, out_features={self.out_features}, "
            f"layout={self.layout!r}, dtype={self.packed.dtype}, bytes={self.packed.nbytes}, "
            f"bias={self.bias is not None}"
        )

    def _load_from_state_dict(self, state_dict: dict[str, Any], *args: Any) -> None:
        super()._load_from_state_dict(state_dict, *args)
        packed = self.packed
        check_packed(packed)
        self.starts = packed.starts
