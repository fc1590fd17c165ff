"""Computation on packed weights: a readable reference for each op, and kernels beside it."""

from gossamer.ops.linear import PackedLinear, explain, linear

__all__ = ["PackedLinear", "explain", "linear"]
