"""The compiled stack: what it covers, and how it is built from a plan."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from gossamer import native
from gossamer.core import UnsupportedError
from gossamer.ops.decode.plan import Plan, Product
from gossamer.ops.linear.cpu import LAYOUTS, matrix_arguments
from gossamer.ops.linear.form import form_of, parts_of

_ACTIVATIONS = ("silu", "gelu_pytorch_tanh")


def refusal(plan: Plan) -> str | None:
    """Why the compiled stack does not cover this plan, None where it does."""
    if native.core is None or not hasattr(native.core, "Stack"):
        return "the compiled kernels are not installed"
    for packed in plan.matrices():
        if packed.device.type != "cpu":
            return f"the compiled kernels run on the cpu, not on {packed.device}"
        if packed.layout not in LAYOUTS:
            return f"the compiled stack does not read layout {packed.layout}"
        if packed.dtype not in (torch.float32, torch.bfloat16):
            return f"the compiled kernels take float32 and bfloat16, not {packed.dtype}"
    return None


def build(plan: Plan, keys: Tensor, values: Tensor) -> Any:
    """The compiled stack over these caches; it keeps addresses, so all tensors must outlive it."""
    if native.core is None:
        raise UnsupportedError("The compiled kernels are not installed; install gossamer anew.")
    inner = plan.blocks[0].gate.stack[0].shape[0]
    stack = native.core.Stack(
        (plan.hidden, inner, plan.heads, plan.key_heads, plan.head, plan.length),
        plan.epsilon, plan.scale, _ACTIVATIONS.index(plan.activation), plan.cosine.data_ptr(),
        plan.sine.data_ptr(), plan.last_norm.data_ptr(), _arguments(plan.top),
    )
    for place, block in enumerate(plan.blocks):
        norms = (block.attention_norm, block.query_norm, block.key_norm, block.mlp_norm)
        products = (block.qkv, block.out, block.gate, block.up, block.down)
        stack.add(
            tuple(0 if norm is None else norm.data_ptr() for norm in norms),
            [_arguments(product) for product in products],
            keys[place].data_ptr(), values[place].data_ptr(),
        )
    return stack


def _arguments(product: Product) -> tuple[list[Any], int]:
    matrices = [
        matrix_arguments(parts_of(packed), form_of(packed.values, packed.layout, packed.shape))
        for packed in product.stack
    ]
    return matrices, 0 if product.bias is None else product.bias.data_ptr()
