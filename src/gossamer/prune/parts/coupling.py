"""couplings: which channels of a net must be permuted together, found by tracing one pass.

A layer's outputs, the norms, biases and depthwise weights on their way, and the inputs of every
layer that reads them are one coupling; a residual addition makes two of them one. Channels that
reach an operation of which it is not known that it treats them alike, or the model's output, keep
their order.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from gossamer.core import SupportError

Role = Literal["out", "in", "channel"]

# Operations that treat every channel alike, with one tensor or with two of equal shape.
_ALIKE = frozenset({
    "relu", "relu_", "hardtanh", "hardtanh_", "clamp", "clamp_", "clamp_min", "clamp_min_", "neg",
    "sigmoid", "sigmoid_", "tanh", "silu", "silu_", "hardswish", "hardswish_", "hardsigmoid", "abs",
    "gelu", "leaky_relu", "leaky_relu_", "elu", "elu_", "clone", "detach", "alias", "_to_copy",
    "add", "add_", "sub", "sub_", "mul", "mul_", "div", "div_", "maximum", "minimum",
    "max_pool2d_with_indices", "avg_pool2d", "_adaptive_avg_pool2d", "adaptive_max_pool2d",
    "upsample_nearest2d", "upsample_bilinear2d", "mean", "amax", "sum", "slice", "constant_pad_nd",
    "view", "_unsafe_view", "squeeze", "unsqueeze", "expand",
})
_RESHAPES = frozenset({"view", "_unsafe_view", "squeeze", "unsqueeze", "mean", "amax", "sum"})
_NORMS = frozenset({"native_batch_norm", "_native_batch_norm_legit_no_training", "batch_norm",
                    "cudnn_batch_norm"})


@dataclass(frozen=True, eq=False)
class End:
    """One side of one tensor that follows a permutation.

    Args:
        tensor: a parameter or buffer of the model.
        dim: which of its sides.
        role: "out" of a layer that makes the channels, "in" of one that reads them, or one
            "channel" after the other: norms, biases, depthwise weights.
        repeat: neighbours that belong to a channel, such as the pixels of a flattened map.
    """

    tensor: Tensor
    dim: int
    role: Role
    repeat: int = 1


@dataclass(frozen=True, eq=False)
class Coupling:
    """Channels that can be permuted, and everything that has to follow.

    Args:
        size: number of channels.
        ends: sides of tensors; at least one has the role "out".
    """

    size: int
    ends: tuple[End, ...]

    def permute(self, order: Tensor) -> None:
        """Put channel ``order[i]`` in place i, in every tensor; the model computes the same.

        Raises:
            SupportError: the order is no permutation of the channels.
        """
        if sorted(order.tolist()) != list(range(self.size)):
            raise SupportError(f"An order of {self.size} channels must name each of them once.")
        for end in self.ends:
            steps = torch.arange(end.repeat)
            places = (order[:, None] * end.repeat + steps).flatten().to(end.tensor.device)
            with torch.no_grad():
                end.tensor.copy_(end.tensor.index_select(end.dim, places))


@torch.no_grad()
def couplings(model: nn.Module, inputs: Tensor) -> list[Coupling]:
    """Every set of channels of the model whose order is free.

    Args:
        model: is run once, in eval mode, and not changed.
        inputs: an example that it takes, such as one image.

    >>> net = nn.Sequential(nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), nn.ReLU(), nn.Conv2d(8, 4, 1))
    >>> [(found.size, len(found.ends)) for found in couplings(net, torch.zeros(1, 3, 8, 8))]
    [(8, 7)]
    """
    tracer = _Tracer(model)
    was_training = [module for module in model.modules() if module.training]
    model.eval()
    try:
        with tracer:
            out = model(inputs)
    finally:
        for module in was_training:
            module.training = True
    return tracer.finish(out)


@dataclass(eq=False)
class _Node:
    """A set of channels while the trace goes on; joined ones point to another."""

    size: int
    free: bool = True
    joined: _Node | None = None
    ends: list[End] = field(default_factory=list)

    def root(self) -> _Node:
        return self if self.joined is None else self.joined.root()


@dataclass(frozen=True)
class _Axis:
    """What dimension 1 of a tensor is: channels, each so many times in a row."""

    node: _Node
    repeat: int = 1


class _Tracer(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Follows dimension 1 of every tensor through the pass."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self._own = {id(t) for t in (*model.parameters(), *model.buffers())}
        self._axes: dict[int, _Axis] = {}
        self._turned: dict[int, Tensor] = {}  # transposed views of weights
        self._owners: dict[tuple[int, int], tuple[_Node, int]] = {}
        self._misused: set[int] = set()
        self._alive: list[Any] = []  # tensors are known by identity, so none may go

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        """Run the operation and follow its channels."""
        out = func(*args, **(kwargs or {}))
        self._alive.append((args, kwargs, out))
        name = str(func.overloadpacket).rpartition(".")[2]
        result = out[0] if isinstance(out, (tuple, list)) and out else out
        if not (isinstance(result, Tensor) and self._follow(name, args, result)):
            for tensor in tree_leaves((args, kwargs or {})):
                self._give_up(tensor)
        return out

    def finish(self, out: Any) -> list[Coupling]:
        """What is free, after the model's outputs are held."""
        for tensor in tree_leaves(out):
            self._give_up(tensor)
        roots = dict.fromkeys(node.root() for node, _ in self._owners.values())
        return [
            Coupling(node.size, tuple(node.ends)) for node in roots
            if node.free and any(end.role == "out" for end in node.ends)
            and not any(id(end.tensor) in self._misused for end in node.ends)
        ]

    def _follow(self, name: str, args: tuple[Any, ...], result: Tensor) -> bool:
        """True where it is known what the operation does with the channels."""
        if name in ("convolution", "_convolution"):
            return self._convolve(args, result)
        if name in ("addmm", "mm", "linear"):
            return self._multiply(name, args, result)
        if name in _NORMS:
            axis = self._axis(args[0])
            if axis.repeat != 1:
                return False
            for tensor in args[1:5]:
                if tensor is not None:
                    self._attach(axis.node, tensor, 0, "channel")
            self._axes[id(result)] = axis
            return True
        if name == "t" and id(args[0]) in self._own:
            self._turned[id(result)] = args[0]
            return True
        return name in _ALIKE and self._pass(name, args, result)

    def _convolve(self, args: tuple[Any, ...], result: Tensor) -> bool:
        x, weight, bias, transposed, groups = args[0], args[1], args[2], args[6], args[8]
        before = self._axis(x)
        depthwise = groups == x.shape[1] == weight.shape[0]
        if transposed or before.repeat != 1 or not (groups == 1 or depthwise):
            return False
        node = before.node
        if depthwise:
            self._attach(node, weight, 0, "channel")
        else:
            self._attach(node, weight, 1, "in")
            node = _Node(weight.shape[0])
            self._attach(node, weight, 0, "out")
        if bias is not None:
            self._attach(node, bias, 0, "channel")
        self._axes[id(result)] = _Axis(node)
        return True

    def _multiply(self, name: str, args: tuple[Any, ...], result: Tensor) -> bool:
        bias, x, weight = args if name == "addmm" else (None, *args[:2])
        if name == "linear":
            bias = args[2] if len(args) > 2 else None
        else:
            weight = self._turned.get(id(weight))
        if weight is None or x.dim() != 2:
            return False
        before, node = self._axis(x), _Node(weight.shape[0])
        self._attach(before.node, weight, 1, "in", before.repeat)
        self._attach(node, weight, 0, "out")
        if bias is not None:
            self._attach(node, bias, 0, "channel")
        self._axes[id(result)] = _Axis(node)
        return True

    def _pass(self, name: str, args: tuple[Any, ...], result: Tensor) -> bool:
        """Operations that keep dimension 1, or lay what follows it along it."""
        tensors = [t for t in args if isinstance(t, Tensor) and t.numel() > 1]
        if not tensors:
            return True
        if any(id(t) in self._own for t in tensors):
            return False
        first = max(tensors, key=lambda t: t.dim())
        if first.dim() < 2 or result.dim() < 2 or first.shape[0] != result.shape[0] or (
                result.dim() != first.dim() and name not in _RESHAPES):
            return False
        if not _spares(name, args, first, result):
            return False
        if any(t.dim() != first.dim() or t.shape[1] != first.shape[1] for t in tensors):
            return False  # broadcast along the channels, or the sides of a map
        axes = [self._axis(t) for t in tensors]
        for other in axes[1:]:
            if other.repeat != axes[0].repeat:
                return False
            self._join(axes[0].node, other.node)
        repeat = axes[0].repeat
        if result.shape[1] != first.shape[1]:
            flat = name in ("view", "_unsafe_view") and result.dim() == 2
            if not flat or result.shape[1] != math.prod(first.shape[1:]):
                return False
            repeat *= result.shape[1] // first.shape[1]
        self._axes[id(result)] = _Axis(axes[0].node, repeat)
        return True

    def _axis(self, tensor: Tensor) -> _Axis:
        """The channels of a tensor; those of an unknown one stay as they are."""
        found = self._axes.get(id(tensor))
        return found or _Axis(_Node(tensor.shape[1], free=False))

    def _attach(self, node: _Node, tensor: Tensor, dim: int, role: Role, repeat: int = 1) -> None:
        root, key = node.root(), (id(tensor), dim)
        if id(tensor) not in self._own or tensor.shape[dim] != root.size * repeat:
            root.free = False
            self._misused.add(id(tensor))
            return
        known = self._owners.setdefault(key, (root, repeat))
        if known[0] is root and not any(e.tensor is tensor and e.dim == dim for e in root.ends):
            root.ends.append(End(tensor, dim, role, repeat))
        self._join(root, known[0])
        if known[1] != repeat:
            root.root().free = False

    def _join(self, one: _Node, other: _Node) -> None:
        one, other = one.root(), other.root()
        if one is other:
            return
        one.free = one.free and other.free and one.size == other.size
        one.ends += other.ends
        other.joined = one

    def _give_up(self, tensor: Any) -> None:
        """Channels that come here keep their order, and so do those of a weight."""
        if not isinstance(tensor, Tensor):
            return
        self._misused.add(id(self._turned.get(id(tensor), tensor)))
        if id(tensor) in self._axes:
            self._axes[id(tensor)].node.root().free = False


def _spares(name: str, args: tuple[Any, ...], first: Tensor, result: Tensor) -> bool:
    """True where a reduction, a slice or a pad leaves samples and channels alone."""
    dims = first.dim()
    if name == "constant_pad_nd":
        return not any(args[1][2 * (dims - 2):])
    if name == "slice":
        dim = args[1] if len(args) > 1 else 0
        return result.shape == first.shape or dim % dims >= 2
    if name in ("mean", "amax", "sum"):
        given = args[1] if len(args) > 1 else None
        named = [given] if isinstance(given, int) else given or range(dims)
        return all(dim % dims >= 2 for dim in named)
    return True
