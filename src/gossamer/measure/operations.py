"""operations: the products of one forward pass, counted by running it without memory.

The model's structure is copied onto the meta device, where tensors have shapes and no values;
every operation that torch dispatches there is seen. The model itself is not touched.
"""

from __future__ import annotations

import copy
import inspect
import math
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

from gossamer.core import ConfigError, UnsupportedError, sites
from gossamer.ops import PackedConv2d, PackedLinear

Kind = Literal["linear", "conv", "attention", "lookup"]

_IMAGE = 224  # side of an image where a configuration names none
_COLOURS = 4  # a convolution that reads at most so many channels is the first one of its net
# Floating-point operations of one output element; all that is not listed and no movement is 1.
_COSTS = {
    "exp": 4, "tanh": 4, "sigmoid": 4, "erf": 4, "rsqrt": 4, "sqrt": 4, "pow": 4, "sin": 4,
    "cos": 4, "gelu": 8, "silu": 8, "_softmax": 5, "_safe_softmax": 5, "native_layer_norm": 8,
    "native_group_norm": 8,
}
# Batch normalisation is folded into the convolution before it; the others move data.
_FREE = frozenset({
    "native_batch_norm", "_native_batch_norm_legit_no_training", "cudnn_batch_norm", "clone",
    "_to_copy", "copy_", "cat", "stack", "index", "index_select", "gather", "slice_scatter",
    "select_scatter", "scatter", "constant_pad_nd", "fill_", "zero_", "_unsafe_view", "repeat",
})


@dataclass(frozen=True)
class Op:
    """One product of a forward pass over one sample, with what is computed right behind it.

    Args:
        name: the weight's name, or the place of a product between activations.
        kind: linear, conv, attention (both operands are activations) or lookup (rows of a table).
        macs: multiply-accumulates of a sample with every weight.
        weights: number of weights; of one expert where there are several.
        activations: elements of a sample that are read and written.
        vector: element-wise floating-point operations of a sample that follow it.
        sparsifiable: its weights can be pruned; depthwise and first convolutions, heads and
            products without weights cannot.
        shape: the weight as ``(rows, cols)``, None without one.
        experts: how many weights of this shape there are to choose from.
        picked: how many of them a sample uses.
    """

    name: str
    kind: Kind
    macs: int
    weights: int = 0
    activations: int = 0
    vector: int = 0
    sparsifiable: bool = False
    shape: tuple[int, int] | None = None
    experts: int = 1
    picked: int = 1

    def __post_init__(self) -> None:
        counts = (self.macs, self.weights, self.activations, self.vector)
        if any(not isinstance(n, int) or n < 0 for n in counts):
            raise ConfigError(
                f"The operation {self.name!r} needs whole numbers of at least 0 for macs, weights, "
                f"activations and vector, not {counts}."
            )
        if min(self.experts, self.picked) < 1:
            raise ConfigError(f"The operation {self.name!r} needs at least one expert.")

    def read(self, batch: int) -> int:
        """Weights that a batch reads: those of every expert that some sample uses."""
        return self.weights * min(self.experts, self.picked * batch)


@dataclass(frozen=True)
class Work:
    """A forward pass over one sample: its operations in order.

    Args:
        name: of the model.
        ops: the operations.
        parameters: all parameters of the model, shared ones once.
        tokens: that a pass over a sample takes in; 0 where the inputs are no tokens.
    """

    name: str
    ops: tuple[Op, ...]
    parameters: int
    tokens: int = 0

    def macs(self, *kinds: Kind) -> int:
        """Multiply-accumulates of a sample, of all kinds or of those given."""
        return sum(op.macs for op in self.ops if not kinds or op.kind in kinds)


def operations(
    model: nn.Module, length: int = 128, context: int = 0, inputs: Any = None
) -> Work:
    """The operations of one sample's forward pass; nothing is computed and no memory is taken.

    Args:
        model: any module; a transformers model needs no inputs. Packed layers count as the
            matrices that they stand for, and parameters may be on the meta device.
        length: tokens in the pass of a language model.
        context: tokens already in the key-value cache of a decoder; ``length=1`` with a context
            is one step of decoding.
        inputs: arguments of the forward for one sample: a tensor, a tuple or a dictionary.

    Raises:
        UnsupportedError: the inputs cannot be guessed, or the pass depends on values.

    >>> work = operations(nn.Sequential(nn.Linear(8, 4), nn.ReLU()), inputs=torch.zeros(1, 8))
    >>> work.ops[0].name, work.ops[0].macs, work.ops[0].vector
    ('0.weight', 32, 4)
    """
    if length < 1 or context < 0:
        raise ConfigError(f"length must be at least 1 and context at least 0, not {length} and "
                          f"{context}.")
    ghost = _ghost(model)
    given = _inputs(ghost, length) if inputs is None else inputs
    counter = _Counter(ghost)
    try:
        with torch.no_grad():
            given = _with_cache(ghost, context, _as_arguments(given))
            with counter:
                ghost(*given[0], **given[1])
    except (RuntimeError, ValueError, TypeError, IndexError) as error:
        first = (str(error).splitlines() or [type(error).__name__])[0]
        raise UnsupportedError(
            f"{type(model).__name__} cannot be run on shapes alone ({first}); pass inputs that fit "
            "it, or a list of operations."
        ) from error
    tokens = length if _is_language(ghost) and inputs is None else 0
    parameters = sum(p.numel() for p in model.parameters()) + sum(
        math.prod(module.packed.shape) for _, module in _packed(model))
    return Work(type(model).__name__, tuple(counter.ops), parameters, tokens)


def _ghost(model: nn.Module) -> nn.Module:
    """A copy of the model whose tensors have shapes alone; bfloat16, which every op accepts."""
    memo: dict[int, Any] = {}
    for tensor in (*model.parameters(), *model.buffers()):
        dtype = torch.bfloat16 if tensor.is_floating_point() else tensor.dtype
        empty = torch.empty_like(tensor, device="meta", dtype=dtype)
        is_parameter = isinstance(tensor, nn.Parameter)
        memo[id(tensor)] = nn.Parameter(empty, requires_grad=False) if is_parameter else empty
    return copy.deepcopy(model, memo).eval()


def _is_language(model: nn.Module) -> bool:
    return getattr(model, "main_input_name", None) == "input_ids"


def _inputs(model: nn.Module, length: int) -> dict[str, Tensor]:
    """One sample of the shape that a transformers model takes."""
    name = getattr(model, "main_input_name", None)
    config = getattr(model, "config", None)
    if _is_language(model):
        return {"input_ids": torch.zeros(1, length, dtype=torch.long)}
    if name == "pixel_values" and config is not None:
        side = getattr(config, "image_size", None) or _IMAGE
        sides = tuple(side) if isinstance(side, (list, tuple)) else (side, side)
        return {"pixel_values": torch.zeros(1, getattr(config, "num_channels", 3), *sides)}
    raise UnsupportedError(
        f"The inputs of {type(model).__name__} are not known; pass inputs for one sample."
    )


def _as_arguments(given: Any) -> tuple[tuple[Any, ...], dict[str, Any]]:
    if isinstance(given, Mapping):
        return (), {name: _to_meta(value) for name, value in given.items()}
    many = given if isinstance(given, tuple) else (given,)
    return tuple(_to_meta(value) for value in many), {}


def _to_meta(value: Any) -> Any:
    if not isinstance(value, Tensor):
        return value
    return value.to("meta", torch.bfloat16 if value.is_floating_point() else value.dtype)


def _with_cache(
    model: nn.Module, context: int, given: tuple[tuple[Any, ...], dict[str, Any]]
) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """The arguments, with a key-value cache of so many tokens."""
    if not context:
        return given
    if "past_key_values" not in inspect.signature(model.forward).parameters:
        raise UnsupportedError(f"{type(model).__name__} keeps no key-value cache, so it takes no "
                               "context.")
    tokens = torch.zeros(1, context, dtype=torch.long, device="meta")
    cache = model(input_ids=tokens, use_cache=True).past_key_values
    return given[0], {**given[1], "past_key_values": cache, "use_cache": True}


class _Counter(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Sees every operation and keeps the products."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.ops: list[Op] = []
        self._names = {_place(p): name for name, p in model.named_parameters()}
        for name, module in _packed(model):
            self._names[_place(module.packed.values)] = name
        self._prunable = _prunable(model)
        self._distinct: dict[int, int] = {}  # elements behind tensors that repeat them
        self._scores: set[int] = set()  # storages that hold softmax's output

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        """Run the operation on shapes, and count it."""
        out = func(*args, **(kwargs or {}))
        name = str(func.overloadpacket).rpartition(".")[2]
        result = out[0] if isinstance(out, (tuple, list)) and out else out
        if not isinstance(result, Tensor):
            return out
        product = _product(name, args, result)
        if product is not None:
            self._keep(product, result)
        elif name == "embedding":
            table = self._names.get(_place(args[0]), "table")
            self.ops.append(Op(table, "lookup", 0, activations=2 * result.numel()))
        elif not func.is_view:
            self._element_wise(name, args, result)
        return out

    def _keep(self, product: _Product, result: Tensor) -> None:
        weight = next((t for t in product.operands if _place(t) in self._names), None)
        if weight is None:
            self._between(product, result)
            return
        name = self._names[_place(weight)]
        cells = product.shape[0] * product.shape[1]
        inputs = sum(t.numel() for t in product.operands if t is not weight)
        self.ops.append(Op(
            name, product.kind, product.macs, cells, inputs + result.numel(), 0,
            product.prunable and (name in self._prunable or product.kind == "conv"),
            product.shape, product.experts, product.picked,
        ))

    def _between(self, product: _Product, result: Tensor) -> None:
        """A product of two activations; scores are consumed where they are made."""
        moved = [self._distinct.get(_place(t), t.numel()) for t in product.operands
                 if _place(t) not in self._scores]
        written = result.numel() if len(moved) < len(product.operands) else 0
        number = sum(op.kind == "attention" for op in self.ops)
        self.ops.append(Op(f"attention {number}", "attention", product.macs,
                           activations=sum(moved) + written))

    def _element_wise(self, name: str, args: tuple[Any, ...], result: Tensor) -> None:
        source = next((a for a in args if isinstance(a, Tensor)), None)
        place = _place(result)
        self._distinct.pop(place, None)
        self._scores.discard(place)
        if source is not None and source.numel() == result.numel():
            strides = zip(source.shape, source.stride())
            behind = math.prod(size for size, stride in strides if stride)
            behind = min(behind, self._distinct.get(_place(source), behind))
            if behind < result.numel():
                self._distinct[place] = behind
            if name in ("_softmax", "_safe_softmax") or _place(source) in self._scores:
                self._scores.add(place)
        if self.ops and result.is_floating_point() and name not in _FREE and source is not None:
            more = result.numel() * _COSTS.get(name, 1)
            self.ops[-1] = replace(self.ops[-1], vector=self.ops[-1].vector + more)


@dataclass(frozen=True)
class _Product:
    """A product that was dispatched: operands, work and the weight's shape if it is one."""

    kind: Kind
    operands: tuple[Tensor, ...]
    macs: int
    shape: tuple[int, int]
    prunable: bool = True
    experts: int = 1
    picked: int = 1


def _product(name: str, args: tuple[Any, ...], result: Tensor) -> _Product | None:
    """What an operation multiplies, None where it is no product."""
    if name in ("mm", "bmm", "addmm", "baddbmm", "mv"):
        a, b = args[1:3] if name in ("addmm", "baddbmm") else args[:2]
        inner, out = a.shape[-1], b.shape[-1] if b.dim() > 1 else 1
        kind: Kind = "attention" if a.dim() == 3 else "linear"
        return _Product(kind, (a, b), result.numel() * inner, (out, inner))
    if name == "_grouped_mm":
        a, b = args[:2]
        picked = min(b.shape[0], a.shape[0])
        return _Product("linear", (a, b), result.numel() * a.shape[-1],
                        (b.shape[-1], b.shape[-2]), True, b.shape[0], picked)
    if name == "packed_linear":
        rows, cols = args[-1]
        return _Product("linear", (args[0], args[1]), result.numel() * cols, (rows, cols))
    if name == "packed_conv2d":
        x, parts, shape = args[0], args[1], args[4]
        return _Product("conv", (x, parts[0]), result.numel() * shape[1], tuple(shape))
    if name in ("convolution", "_convolution"):
        x, weight, transposed, groups = args[0], args[1], args[6], args[8]
        taps = weight[0].numel()
        macs = (x if transposed else result).numel() * taps
        prunable = groups == 1 and x.shape[1] > _COLOURS
        return _Product("conv", (x, weight), macs, (weight.shape[0], taps), prunable)
    return None


def _place(tensor: Tensor) -> int:
    """Where a tensor's values would lie; views share it."""
    return int(tensor.untyped_storage()._cdata)


def _packed(model: nn.Module) -> Iterator[tuple[str, PackedLinear | PackedConv2d]]:
    """Packed layers with the names that their weights would have."""
    for path, module in model.named_modules():
        if isinstance(module, (PackedLinear, PackedConv2d)):
            yield f"{path}.weight".removeprefix("."), module


def _prunable(model: nn.Module) -> set[str]:
    """Names of the parameters that hold sites, and of packed layers."""
    packed = {name for name, _ in _packed(model)}
    try:
        return packed | {re.sub(r"\[\d+\]$", "", site.name) for site in sites(model)}
    except UnsupportedError:  # nothing but packed layers
        return packed
