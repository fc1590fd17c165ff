"""The truth: unpack, then multiply densely; also the gradients."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext

import torch
from torch import Tensor

from gossamer.core import Support
from gossamer.layout import Packed, layout_of, support_of, unpack


def result_dtype(x: Tensor, values: Tensor) -> torch.dtype:
    """The wider of the two: bfloat16 with float32 gives float32."""
    return torch.promote_types(x.dtype, values.dtype)


def without_autocast(device: torch.device) -> AbstractContextManager[object]:
    """Inside, torch's products keep the dtype of their inputs, as the kernels do."""
    kind = device.type
    if torch.amp.is_autocast_available(kind) and torch.is_autocast_enabled(kind):
        return torch.autocast(kind, enabled=False)
    return nullcontext()


def linear(x: Tensor, packed: Packed, bias: Tensor | None) -> Tensor:
    """``y = x W^T + b`` for x ``[..., cols]``, in the wider dtype of x and values."""
    dtype = result_dtype(x, packed.values)
    with without_autocast(x.device):
        y = x.to(dtype) @ unpack(packed).to(dtype).t()
    return y if bias is None else y + bias.to(dtype)


def grad_x(grad: Tensor, packed: Packed) -> Tensor:
    """``dL/dx = grad W`` for grad ``[..., rows]``."""
    with without_autocast(grad.device):
        return grad @ unpack(packed).to(grad.dtype)


def grad_values(grad: Tensor, x: Tensor, packed: Packed) -> Tensor:
    """``dL/dvalues``: the entries of ``grad^T x`` at the kept places, shaped as the values."""
    with without_autocast(grad.device):
        full = grad.flatten(0, -2).t() @ x.to(grad.dtype).flatten(0, -2)  # [rows, cols]
    support = Support.full(*packed.shape) if packed.layout == "dense" else support_of(packed)
    return layout_of(packed.layout).pack(full.to(packed.dtype), support)["values"]
