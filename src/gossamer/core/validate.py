"""Validation of dataclass fields from their ``Annotated`` constraints."""

from __future__ import annotations

import dataclasses
import types
from typing import Annotated, Any, Literal, Union, get_args, get_origin, get_type_hints

import annotated_types as at

from gossamer.core.errors import ConfigError, unknown


def validate(config: Any) -> None:
    """Check every field of a dataclass against its type and constraints; call in __post_init__.

    Understands int, float, str and bool, ``Literal`` choices, unions with None and, inside
    ``Annotated``, the bounds of ``annotated_types``; other annotations (texts for the command
    line, types of other kinds) are left alone. Raises ConfigError with one sentence for the
    first value out of its domain.
    """
    hints = get_type_hints(type(config), include_extras=True)
    for field in dataclasses.fields(config):
        _check(f"{type(config).__name__}.{field.name}", getattr(config, field.name),
               hints[field.name])


def _check(name: str, value: Any, hint: Any) -> None:
    constraints: list[Any] = []
    while get_origin(hint) in (Annotated, Union, types.UnionType):
        if get_origin(hint) is Annotated:
            hint, *rest = get_args(hint)
            constraints += rest
            continue
        members = [member for member in get_args(hint) if member is not type(None)]
        if value is None and type(None) in get_args(hint):
            return
        if len(members) != 1:
            break
        hint = members[0]
    if get_origin(hint) is Literal:
        if value not in get_args(hint):
            raise ConfigError(unknown(name, str(value), [str(o) for o in get_args(hint)]))
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
    # Written so that nan, which compares false with everything, is out of every domain.
    if isinstance(constraint, at.Gt) and not value > constraint.gt:
        raise ConfigError(f"{name} must be greater than {constraint.gt}, not {value}.")
    if isinstance(constraint, at.Ge) and not value >= constraint.ge:
        raise ConfigError(f"{name} must be at least {constraint.ge}, not {value}.")
    if isinstance(constraint, at.Lt) and not value < constraint.lt:
        raise ConfigError(f"{name} must be less than {constraint.lt}, not {value}.")
    if isinstance(constraint, at.Le) and not value <= constraint.le:
        raise ConfigError(f"{name} must be at most {constraint.le}, not {value}.")
