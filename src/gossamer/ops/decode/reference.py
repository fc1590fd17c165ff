"""The truth: one token through the plan with dense products, in the dtype of x."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn.functional import gelu, silu

from gossamer.ops.decode.plan import Plan, Product
from gossamer.ops.linear import reference


def step(plan: Plan, x: Tensor, position: int, keys: Tensor, values: Tensor) -> Tensor:
    """Logits ``[vocab]`` after the token whose embedding is ``x [hidden]``.

    The caches ``keys [blocks, key_heads, length, head]`` and ``values [blocks, key_heads, head,
    length]`` are filled at the position.
    """
    end, group = position + 1, plan.heads // plan.key_heads
    for place, block in enumerate(plan.blocks):
        heads = _product(_norm(x, block.attention_norm, plan), block.qkv).view(-1, plan.head)
        query, key, value = torch.split(heads, [plan.heads, plan.key_heads, plan.key_heads])
        if block.query_norm is not None and block.key_norm is not None:
            query, key = _norm(query, block.query_norm, plan), _norm(key, block.key_norm, plan)
        query, key = (_rotated(turned, plan, position) for turned in (query, key))
        keys[place, :, position], values[place, :, :, position] = key, value
        grouped = query.view(plan.key_heads, group, plan.head)
        scores = grouped @ keys[place, :, :end].to(x.dtype).transpose(1, 2) * plan.scale
        seen = scores.softmax(-1) @ values[place, :, :, :end].to(x.dtype).transpose(1, 2)
        x = x + _product(seen.flatten(), block.out)
        normed = _norm(x, block.mlp_norm, plan)
        gate = _product(normed, block.gate)
        gate = silu(gate) if plan.activation == "silu" else gelu(gate, approximate="tanh")
        x = x + _product(gate * _product(normed, block.up), block.down)
    return _product(_norm(x, plan.last_norm, plan), plan.top)


def _norm(x: Tensor, weight: Tensor, plan: Plan) -> Tensor:
    return x * torch.rsqrt(x.square().mean(-1, keepdim=True) + plan.epsilon) * weight


def _product(x: Tensor, product: Product) -> Tensor:
    rows = torch.cat([reference.linear(x, packed, None) for packed in product.stack], -1)
    return rows if product.bias is None else rows + product.bias


def _rotated(x: Tensor, plan: Plan, position: int) -> Tensor:
    """``x [heads, head]`` with pairs (i, i + head / 2) turned by the angles of the position."""
    cosine, sine = plan.cosine[position], plan.sine[position]
    first, second = x.chunk(2, -1)
    return torch.cat([first * cosine - second * sine, second * cosine + first * sine], -1)
