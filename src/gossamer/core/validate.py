"""Validation of dataclass fields from their ``Annotated`` constraints."""

from __future__ import annotations

import dataclasses
import types
import typing
from typing import Annotated, Any, Literal, Union, get_args, get_origin, get_type_hints

import annotated_types as at

from gossamer.core.errors import ConfigError, unknown


def validate(config: Any) -> None:
    """Check every field of a dataclass against its type and constraints; call in __post_init__.

    Understands ``Annotated[...]`` with ``annotated_types`` bounds, ``Literal`` choices and
    unions with None. Raises ConfigError with one sentence for the first value out of its domain.
    """
    hints = get_type_hints(type(config), include_extras=True)
    for field in dataclasses.fields(config):
        _check(f"{type(config).__name__}.{field.name}", getattr(config, field.name),
               hints[field.name])


def _check(name: str, value: Any, hint: Any) -> None:
    constraints: tuple[Any, ...] = ()
    if get_origin(hint) is Annotated:
        hint, *rest = get_args(hint)
        constraints = tuple(rest)
    if get_origin(hint) in (Union, types.UnionType):
        if value is None and type(None) in get_args(hint):
            return
        members = [h for h in get_args(hint) if h is not type(None)]
        if len(members) == 1:
            hint = members[0]
    if get_origin(hint) is Literal:
        options = get_args(hint)
        if value not in options:
            raise ConfigError(unknown(name, str(value), [str(o) for o in options]))
    elif hint in (int, float, str, bool) and not _is(value, hint):
        raise ConfigError(f"{name} must be of type {hint.__name__}, not {value!r}.")
    for constraint in constraints:
        _bound(name, value, constraint)


def _is(value: Any, kind: type) -> bool:
    if kind is float:
        return isinstance(value, (int, float)) and not isinstance(value, bool)
    return isinstance(value, kind) and not (kind is int and isinstance(value, bool))


def _bound(name: str, value: Any, constraint: Any) -> None:
    if isinstance(constraint, at.GroupedMetadata):
        for part in constraint:
            _bound(name, value, part)
        return
    tests: dict[type, tuple[str, typing.Callable[[Any, Any], bool]]] = {
        at.Gt: ("gt", lambda v, b: v > b), at.Ge: ("ge", lambda v, b: v >= b),
        at.Lt: ("lt", lambda v, b: v < b), at.Le: ("le", lambda v, b: v <= b),
    }
    words = {"gt": "greater than", "ge": "at least", "lt": "less than", "le": "at most"}
    for kind, (attribute, holds) in tests.items():
        if isinstance(constraint, kind):
            bound = getattr(constraint, attribute)
            if not holds(value, bound):
                raise ConfigError(f"{name} must be {words[attribute]} {bound}, not {value}.")
