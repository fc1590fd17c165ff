"""The parameters of a system, read from the annotated fields of its dataclass."""

from __future__ import annotations

import dataclasses
import types
from dataclasses import dataclass
from typing import Annotated, Any, Literal, Union, get_args, get_origin, get_type_hints

import annotated_types as at

from gossamer.cards.card import get_system
from gossamer.core.errors import ConfigError

_BOUNDS = {"gt": ">", "ge": ">=", "lt": "<", "le": "<="}
_PLAIN = {int: "whole number", float: "number", str: "text", bool: "True | False"}


@dataclass(frozen=True)
class Parameter:
    """One field of a system, in words and as Python values.

    Args:
        name: the field.
        type: its plain type, without the constraints.
        default: its default value, or `dataclasses.MISSING`.
        domain: the values allowed, such as ``number, > 0, <= 1``.
        meaning: what it does.
    """

    name: str
    type: Any
    default: Any
    domain: str
    meaning: str


def parameters(system: type) -> list[Parameter]:
    """Every field of a system in order.

    A field is ``Annotated[type, constraint, "meaning"]``; constraint and meaning may be absent.

    >>> from typing import Annotated
    >>> @dataclasses.dataclass
    ... class Random:
    ...     density: Annotated[float, at.Interval(gt=0, le=1), "share kept"] = 0.5
    >>> parameters(Random)[0].domain, parameters(Random)[0].meaning
    ('number, > 0, <= 1', 'share kept')
    """
    hints = get_type_hints(system, include_extras=True)
    return [_parameter(field, hints[field.name]) for field in dataclasses.fields(system)]


def pruning_system(id: str) -> str:
    """The id, where its system has a density to prune to; some only check what was pruned.

    Raises:
        ConfigError: an unknown id, or a system without a density.
    """
    if all(field.name != "density" for field in parameters(get_system(id))):
        raise ConfigError(
            f"{id} prunes nothing to a density; see `gossamer show {id}` for what it does.")
    return id


def _parameter(field: dataclasses.Field[Any], hint: Any) -> Parameter:
    notes: tuple[Any, ...] = ()
    if get_origin(hint) is Annotated:
        hint, *rest = get_args(hint)
        notes = tuple(rest)
    default = field.default
    if field.default_factory is not dataclasses.MISSING:
        default = field.default_factory()
    bounds = [text for note in notes for text in _bounds(note)]
    domain = ", ".join([*_choices(hint), *bounds])
    meaning = " ".join(note for note in notes if isinstance(note, str))
    return Parameter(field.name, hint, default, domain, meaning)


def _bounds(note: Any) -> list[str]:
    parts = list(note) if isinstance(note, at.GroupedMetadata) else [note]
    return [
        f"{sign} {getattr(part, word)}"
        for part in parts for word, sign in _BOUNDS.items()
        if isinstance(part, at.BaseMetadata) and hasattr(part, word)
    ]


def _choices(hint: Any) -> list[str]:
    if get_origin(hint) is Literal:
        return [" | ".join(str(value) for value in get_args(hint))]
    if hint in _PLAIN:
        return [_PLAIN[hint]]
    if get_origin(hint) in (Union, types.UnionType):
        return [text for member in get_args(hint) for text in _choices(member)]
    return []
