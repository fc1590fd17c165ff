"""Which stored tensors make each parameter of a model, by transformers' own conversion rules."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from gossamer.core.errors import NeedsError, StoreError
from gossamer.models.shards import Stored

if TYPE_CHECKING:
    from transformers import PreTrainedModel


@dataclass(frozen=True, eq=False)
class Recipe:
    """Stored tensors and the conversion that makes one or more parameters of them.

    Args:
        target: the parameter, or the first of those that one stored tensor is split into.
        sources: stored tensors, each under the pattern that its name matched, in order.
        converter: transformers' conversion, or None where the tensor is taken as it is.
    """

    target: str
    sources: list[tuple[str, Stored]] = field(default_factory=list)
    converter: Any = None

    def read(self, model: PreTrainedModel, dtype: torch.dtype | None) -> dict[str, Tensor]:
        """The finished tensors by parameter name; floating point ones cast to ``dtype``.

        Raises:
            StoreError: a shard is torn, or the stored tensors do not fit one another.
        """
        if self.converter is None:
            return {self.target: cast(self.sources[-1][1].read(), dtype)}
        if self._stacks():
            return {self.target: self._stack(dtype)}
        work = copy.deepcopy(self.converter)
        for pattern, stored in self.sources:
            work.add_tensor(self.target, self.target, pattern, cast(stored.read(), dtype))
        try:
            made = work.convert(self.target, model=model, config=model.config)
        except (ValueError, RuntimeError, IndexError, AttributeError) as error:
            raise StoreError(f"{self.target} cannot be made from its file: {error}.") from error
        return {name: value[0] if isinstance(value, list) else value
                for name, value in made.items()}

    def dtype(self) -> torch.dtype:
        """The dtype that the parameter is stored in."""
        return self.sources[-1][1].dtype

    def _stacks(self) -> bool:
        """True for one matrix an expert, stacked (and joined along the rows): the common case."""
        rules = [(type(op).__name__, getattr(op, "dim", None)) for op in self.converter.operations]
        return rules in ([("MergeModulelist", 0)],
                         [("MergeModulelist", 0), ("Concatenate", 1)])

    def _stack(self, dtype: torch.dtype | None) -> Tensor:
        """Read each expert straight into its place, so that no second copy is made."""
        parts = [[stored for pattern, stored in self.sources if pattern == wanted]
                 for wanted in self.converter.source_patterns]
        shapes = [{stored.shape for stored in part} for part in parts]
        if len({len(part) for part in parts}) != 1 or any(len(shape) != 1 for shape in shapes):
            raise StoreError(f"{self.target}: the experts in {self.sources[0][1].file} and its "
                             "like are not all there, or differ in shape.")
        rows = [part[0].shape[0] for part in parts]
        first = parts[0][0]
        stacked = torch.empty(len(parts[0]), sum(rows), *first.shape[1:],
                              dtype=cast_dtype(first.dtype, dtype))
        for part, end, height in zip(parts, _ends(rows), rows):
            for expert, stored in enumerate(part):
                place = stacked[expert, end - height:end]
                if stored.dtype == place.dtype:
                    stored.read_into(place)
                else:
                    place.copy_(stored.read())
        return stacked


def plan(model: PreTrainedModel, stored: Mapping[str, Stored]) -> dict[str, Recipe]:
    """The recipe of every parameter and persistent buffer that the stored tensors give.

    Raises:
        NeedsError: a transformers without the conversion rules.
    """
    try:
        from transformers.conversion_mapping import get_model_conversion_mapping
        from transformers.core_model_loading import (
            WeightConverter,
            WeightRenaming,
            dot_natural_key,
            rename_source_key,
        )
    except ImportError as error:
        raise NeedsError(
            "Streaming a checkpoint needs the conversion rules of transformers 5.10 or later."
        ) from error
    rules = get_model_conversion_mapping(model)
    renamings = [rule for rule in rules if isinstance(rule, WeightRenaming)]
    converters = [rule for rule in rules if isinstance(rule, WeightConverter)]
    by_pattern = {pattern: rule for rule in converters for pattern in rule.source_patterns}
    wanted = model.state_dict()
    recipes: dict[str, Recipe] = {}
    for key in sorted(stored, key=dot_natural_key):
        prefix = model.base_model_prefix
        target, pattern = rename_source_key(key, renamings, converters, prefix, wanted)
        if target not in wanted and key in wanted:
            target, pattern = rename_source_key(key, [], [], prefix, wanted)
        if target in wanted:
            rule = by_pattern[pattern] if pattern is not None else None
            recipe = recipes.setdefault(target, Recipe(target, converter=rule))
            recipe.sources.append((pattern or key, stored[key]))
    for recipe in list(recipes.values()):
        for name in _targets(recipe):
            if name in wanted:
                recipes[name] = recipe
    return recipes


def missing(model: PreTrainedModel, recipes: Mapping[str, Recipe]) -> list[str]:
    """Names of parameters and persistent buffers that no recipe gives, tied ones aside."""
    given = {id(model.get_parameter_or_buffer(name)) for name in recipes}
    return [name for name, tensor in model.state_dict(keep_vars=True).items()
            if id(tensor) not in given]


def cast_dtype(stored: torch.dtype, wanted: torch.dtype | None) -> torch.dtype:
    """The wanted dtype for floating point tensors, the stored one otherwise."""
    return wanted if wanted is not None and stored.is_floating_point else stored


def cast(tensor: Tensor, dtype: torch.dtype | None) -> Tensor:
    """A floating point tensor in another dtype; others stay as they are."""
    return tensor.to(cast_dtype(tensor.dtype, dtype))


def _targets(recipe: Recipe) -> list[str]:
    """Every parameter that the recipe makes: a conversion may split one tensor into several."""
    if recipe.converter is None:
        return [recipe.target]
    first, *others = recipe.converter.target_patterns
    return [recipe.target, *(recipe.target.replace(first, other) for other in others)]


def _ends(sizes: list[int]) -> list[int]:
    return [sum(sizes[: place + 1]) for place in range(len(sizes))]
