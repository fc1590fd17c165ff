"""A model's tensors put in place: packed layers installed, the rest assigned."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

from gossamer.core import Site, StoreError
from gossamer.core.sites import is_conv1d
from gossamer.edit import Swap, apply
from gossamer.layout import Packed, unpack
from gossamer.ops import PackedConv2d, PackedLinear
from gossamer.ops.conv import window_of
from gossamer.store.matrices import expert_index, parameter_name


@dataclass
class _Pending:
    """What has arrived and waits for the end."""

    replaceable: set[int]
    packed: dict[str, Packed] = field(default_factory=dict)
    stacks: dict[str, Tensor] = field(default_factory=dict)
    experts: dict[str, set[int]] = field(default_factory=dict)
    arrived: set[str] = field(default_factory=set)


def fill(
    model: nn.Module, items: Iterable[tuple[str, Tensor | Packed]], tied: Mapping[str, str],
    source: object,
) -> None:
    """Give a model all of its tensors, in place.

    A packed matrix replaces its nn.Linear by a packed layer. One that belongs to a layer
    without a packed form (stacked experts, Conv1D, embeddings) is unpacked into the parameter.

    Args:
        model: parameters may lie on the meta device.
        items: tensors by their name in the state dict, packed matrices by their site's name.
        tied: ``{alias: name}`` of what is stored once and shared.
        source: where the items come from, for the error's sentence.

    Raises:
        StoreError: a tensor that the model has no place for, of another shape, or missing.
    """
    expected = set(model.state_dict())
    pending = _Pending(replaceable(model))
    for name, item in items:
        known = (pending.arrived, pending.packed)
        if any(parameter_name(name) in names for names in known):
            raise StoreError(f"{source} holds {name} twice; save the model again.")
        if isinstance(item, Packed):
            _take_packed(model, name, item, pending, source)
        else:
            _assign(model, name, item, source)
            pending.arrived.add(name)
    for name, stack in pending.stacks.items():
        absent = set(range(len(stack))) - pending.experts[name]
        if absent:
            raise StoreError(f"{source} lacks {name}[{min(absent)}]; the folder is incomplete.")
        _assign(model, name, stack, source)
    arrived = pending.arrived | set(pending.stacks) | set(pending.packed)
    missing = expected - arrived - set(tied)
    if twice := arrived & set(tied):
        raise StoreError(
            f"{source} holds {min(twice)} and says that it is that of {tied[min(twice)]}; save "
            "the model again."
        )
    if missing:
        raise StoreError(
            f"{source} lacks {min(missing)}, which {type(model).__name__} needs; the folder "
            "belongs to another model or was written by another version of its class."
        )
    _tie(model, tied, pending.packed, source)
    _install(model, tied, pending.packed)


def _take_packed(
    model: nn.Module, name: str, item: Packed, pending: _Pending, source: object
) -> None:
    owner, leaf = _owner(model, parameter_name(name), source)
    index = expert_index(name)
    if index is not None:
        param = owner._parameters.get(leaf)
        if param is None or param.dim() != 3 or index >= len(param) or (
            tuple(param.shape[1:]) != item.shape
        ):
            raise _misfit(name, item.shape, model, source)
        base, dense = parameter_name(name), unpack(item)
        if base not in pending.stacks:
            pending.stacks[base] = torch.empty(param.shape, dtype=dense.dtype)
        if index in pending.experts.get(base, ()) or dense.dtype != pending.stacks[base].dtype:
            raise StoreError(
                f"{source} holds {name} twice, or as {dense.dtype} beside others of "
                f"{pending.stacks[base].dtype}; save the model again."
            )
        pending.stacks[base][index] = dense
        pending.experts.setdefault(base, set()).add(index)
    elif id(owner) in pending.replaceable and leaf == "weight":
        if tuple(owner.get_parameter(leaf).flatten(1).shape) != item.shape:
            raise _misfit(name, item.shape, model, source)
        pending.packed[name] = item
    else:
        dense = unpack(item)
        _assign(model, name, dense.t().contiguous() if is_conv1d(owner) else dense, source)
        pending.arrived.add(name)


def replaceable(model: nn.Module) -> set[int]:
    """Ids of the Linear layers and convolutions that a packed layer can stand in for.

    torch's own attention and encoder layers read some of theirs as weights instead of calling
    them, and a model that is one Linear has no place to hold another module.
    """
    inner = nn.modules.linear.NonDynamicallyQuantizableLinear
    read = {
        id(layer) for module in model.modules() if isinstance(module, nn.TransformerEncoderLayer)
        for layer in (module.linear1, module.linear2)
    }
    return {
        id(module) for module in model.modules()
        if ((isinstance(module, nn.Linear) and not isinstance(module, inner)) or _packs(module))
        and module is not model
    } - read


def _packs(module: nn.Module) -> bool:
    """True for a convolution that has a packed form."""
    return (isinstance(module, nn.Conv2d) and module.groups == 1
            and module.padding_mode == "zeros" and not isinstance(module.padding, str))


def _owner(model: nn.Module, name: str, source: object) -> tuple[nn.Module, str]:
    path, _, leaf = name.rpartition(".")
    try:
        owner = model.get_submodule(path)
    except AttributeError as error:
        raise _unknown(name, model, source) from error
    if leaf not in owner._parameters and leaf not in owner._buffers:
        raise _unknown(name, model, source)
    return owner, leaf


def _assign(model: nn.Module, name: str, tensor: Tensor, source: object) -> None:
    owner, leaf = _owner(model, name, source)
    old = owner._parameters.get(leaf, owner._buffers.get(leaf))
    if isinstance(owner, nn.Conv2d) and old is not None and tensor.dim() == 2 and (
            tuple(tensor.shape) == tuple(old.flatten(1).shape)):
        tensor = tensor.reshape(old.shape)  # one that was packed before is stored as a matrix
    if old is None or old.shape != tensor.shape or not _alike(old, tensor):
        raise _misfit(name, tuple(tensor.shape), model, source)
    if isinstance(old, nn.Parameter):
        setattr(owner, leaf, nn.Parameter(tensor, requires_grad=old.requires_grad))
    else:
        setattr(owner, leaf, tensor)


def _alike(old: Tensor, new: Tensor) -> bool:
    """True for two float types, which may differ in width, or one and the same other type."""
    if old.is_floating_point() or old.is_complex():
        return new.is_floating_point() == old.is_floating_point() and (
            new.is_complex() == old.is_complex())
    return old.dtype == new.dtype


def _tie(
    model: nn.Module, tied: Mapping[str, str], packed: Mapping[str, Packed], source: object
) -> None:
    for alias, name in tied.items():
        if name not in packed:
            owner, leaf = _owner(model, name, source)
            target, own = _owner(model, alias, source)
            shared, old = getattr(owner, leaf), getattr(target, own)
            if old.shape != shared.shape:
                raise _misfit(alias, tuple(shared.shape), model, source)
            setattr(target, own, shared)


def _install(model: nn.Module, tied: Mapping[str, str], packed: Mapping[str, Packed]) -> None:
    aliases = {alias: packed[name] for alias, name in tied.items() if name in packed}
    edits: dict[int, Swap] = {}
    for name, item in {**packed, **aliases}.items():
        module = model.get_submodule(name.rpartition(".")[0])
        # A module in two places is replaced in both at once.
        if id(module) in edits:
            continue
        if isinstance(module, nn.Linear):
            linear = PackedLinear(item, module.bias)
            edits[id(module)] = Swap(Site(name, module, "linear"), linear)
        elif isinstance(module, nn.Conv2d):
            conv = PackedConv2d(item, module.bias, window_of(module))
            edits[id(module)] = Swap(Site(name, module, "conv2d"), conv)
    if edits:
        apply(model, edits.values())


def _unknown(name: str, model: nn.Module, source: object) -> StoreError:
    return StoreError(
        f"{source} holds {name}, which {type(model).__name__} has no place for; the folder "
        "belongs to another model or was written by another version of its class."
    )


def _misfit(
    name: str, shape: tuple[int, ...], model: nn.Module, source: object
) -> StoreError:
    return StoreError(
        f"{source} holds {name} of shape {tuple(shape)}, which in shape or dtype does not fit "
        f"{type(model).__name__}; the folder belongs to another model."
    )
