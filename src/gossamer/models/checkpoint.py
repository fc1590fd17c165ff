"""Checkpoint: a model folder opened without its weights, which come and go module by module."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import torch
from torch import Tensor, nn

from gossamer.core.errors import ConfigError, StoreError, UnsupportedError
from gossamer.models.meta import empty_model, model_class, owners, read_config
from gossamer.models.plan import Recipe, cast_dtype, missing, plan
from gossamer.models.shards import open_shards


class Checkpoint:
    """A Hugging Face folder of safetensors as a model whose parameters are on the meta device.

    Opening reads the headers alone. `load` brings the parameters under one module into memory
    and `unload` drops them again, so a model of any size can be walked in the memory of its
    largest module. Stored names are converted by transformers' own rules (renamed keys, stacked
    experts). Parameters that are tied in the model stay one parameter.

    Args:
        path: folder with config.json and model.safetensors, or shards and their index.
        dtype: of the floating point parameters; None keeps the stored dtypes.

    Attributes:
        model: the transformers class that the configuration names, in evaluation mode, with
            real buffers.
        path: the folder.

    Raises:
        StoreError: the folder or a file in it is missing, torn or damaged.
        UnsupportedError: parameters that the files do not give, or an unknown model type.
        NeedsError: transformers is absent.
    """

    def __init__(self, path: str | Path, dtype: torch.dtype | None = None) -> None:
        self.path = Path(path)
        self._dtype = dtype
        stored = open_shards(self.path)
        config = read_config(self.path)
        self.model = empty_model(model_class(config), config)
        self._recipes = plan(self.model, stored)
        if lost := missing(self.model, self._recipes):
            raise UnsupportedError(
                f"{self.path} does not give {', '.join(lost[:3])}"
                f"{f' and {len(lost) - 3} more' if len(lost) > 3 else ''} of "
                f"{type(self.model).__name__}: these files are of another class or layout."
            )
        self._owners = owners(self.model)
        self._source = _tied_to(self._owners, self._recipes)
        self._meta = {key: self._meta_parameter(key) for key in set(self._source.values())}
        for key, source in self._source.items():
            self._put(key, self._meta[source])
        self._fill_buffers()

    def load(self, module: nn.Module, name: str) -> None:
        """Read every parameter under a module from the files, where it is not loaded already.

        Args:
            module: a module of ``model``.
            name: its dotted name, empty for the whole model.

        Raises:
            StoreError: a shard is torn or does not fit the model.
            ConfigError: the module does not go by that name.
        """
        inside = self._inside(module, name)
        for key in inside:
            source = self._source[key]
            if not self._get(key).is_meta:
                continue
            twins = (self._get(twin) for twin, other in self._source.items() if other == source)
            if loaded := [twin for twin in twins if not twin.is_meta]:
                self._put(key, loaded[0])
                continue
            for made, tensor in self._recipes[source].read(self.model, self._dtype).items():
                self._place(made, tensor, inside)

    def unload(self, module: nn.Module) -> None:
        """Put the parameters under a module back on the meta device."""
        modules = set(module.modules())
        for key, (owner, _) in self._owners.items():
            if owner in modules:
                self._put(key, self._meta[self._source[key]])

    def tensors(self) -> Iterator[tuple[str, tuple[int, ...], torch.dtype]]:
        """Name, shape and dtype of every parameter and persistent buffer; tied ones once."""
        for name, tensor in self.model.state_dict(keep_vars=True).items():
            if self._source.get(name, name) == name:
                yield name, tuple(tensor.shape), tensor.dtype

    def read(self, name: str) -> Tensor:
        """One parameter or persistent buffer as the files hold it, loaded or not.

        Raises:
            StoreError: no such name, or a torn shard.
        """
        source = self._source.get(name, name)
        if source not in self._recipes:
            raise StoreError(f"{self.path} holds no tensor {name!r}.")
        return self._recipes[source].read(self.model, self._dtype)[source]

    def _inside(self, module: nn.Module, name: str) -> list[str]:
        if dict(self.model.named_modules(remove_duplicate=False)).get(name) is not module:
            raise ConfigError(f"{name!r} does not name the given {type(module).__name__}.")
        modules = set(module.modules())
        return [key for key, (owner, _) in self._owners.items() if owner in modules]

    def _get(self, key: str) -> nn.Parameter:
        owner, attribute = self._owners[key]
        parameter: nn.Parameter = getattr(owner, attribute)
        return parameter

    def _put(self, key: str, parameter: nn.Parameter) -> None:
        owner, attribute = self._owners[key]
        setattr(owner, attribute, parameter)

    def _place(self, made: str, tensor: Tensor, inside: list[str]) -> None:
        """Put a finished tensor wherever it is asked for and not loaded yet."""
        wanted = [key for key in inside if self._source[key] == made and self._get(key).is_meta]
        if wanted:
            meta = self._meta[made]
            self._same_shape(made, tensor, meta)
            parameter = nn.Parameter(tensor, requires_grad=meta.requires_grad)
            for key in wanted:
                self._put(key, parameter)

    def _same_shape(self, key: str, read: Tensor, wanted: Tensor) -> None:
        if read.shape != wanted.shape:
            raise StoreError(
                f"{self.path}: {key} has shape {list(read.shape)}, but config.json asks for "
                f"{list(wanted.shape)}."
            )

    def _meta_parameter(self, key: str) -> nn.Parameter:
        """A parameter without memory, of the dtype that loading will give."""
        meta, recipe = self._get(key), self._recipes[key]
        dtype = cast_dtype(recipe.dtype(), self._dtype)
        empty = torch.empty(meta.shape, dtype=dtype, device="meta")
        return nn.Parameter(empty, requires_grad=meta.requires_grad and dtype.is_floating_point)

    def _fill_buffers(self) -> None:
        for key, buffer in self.model.named_buffers():
            if key in self._recipes:
                read = self._recipes[key].read(self.model, None)[key]
                self._same_shape(key, read, buffer)
                buffer.copy_(read)


def _tied_to(
    names: dict[str, tuple[nn.Module, str]], recipes: dict[str, Recipe]
) -> dict[str, str]:
    """For every parameter name, the name it is read under: its own, or that of its tied twin.

    Where the files hold both twins they may differ, so each is read for itself.
    """
    first: dict[int, str] = {}
    for key, (owner, attribute) in names.items():
        if key in recipes:
            first.setdefault(id(getattr(owner, attribute)), key)
    return {key: key if key in recipes else first[id(getattr(owner, attribute))]
            for key, (owner, attribute) in names.items()}
