"""The options of one system, made from the fields of its dataclass."""

from __future__ import annotations

import dataclasses
import types
from collections.abc import Sequence
from typing import Annotated, Any, Union, get_args, get_origin

import tyro

from gossamer.cards import get_system
from gossamer.cards.parameters import Parameter, parameters


def named_system(arguments: Sequence[str], default: str) -> str:
    """The system that ``--system`` names among the arguments, which decides the other options."""
    for place, word in enumerate(arguments):
        if word.startswith("--system="):
            return word.removeprefix("--system=")
        if word == "--system" and place + 1 < len(arguments):
            return arguments[place + 1]
    return default


def settings_type(id: str) -> type:
    """A dataclass with the system's fields as options, each with its meaning and bounds."""
    system = get_system(id)
    found = parameters(system)
    fields = [(p.name, Annotated[p.type, _option(p)], _field(p)) for p in found]
    return dataclasses.make_dataclass(
        f"{system.__name__}Settings", fields, frozen=True,
        namespace={"__doc__": f"Settings of {system.card.title}."},
    )


def build(id: str, settings: Any) -> Any:
    """The system, configured; a value out of its domain is a ConfigError."""
    return get_system(id)(**dataclasses.asdict(settings))


def _option(parameter: Parameter) -> Any:
    metavar = _metavar(parameter.type)
    limits = f" [{parameter.domain}]" if metavar in ("INT", "FLOAT") else ""
    return tyro.conf.arg(help=parameter.meaning + limits, metavar=metavar)


def _metavar(hint: Any) -> str | None:
    """The plain type in capitals; None lets tyro list the choices."""
    if get_origin(hint) in (Union, types.UnionType):
        members = [member for member in get_args(hint) if member is not type(None)]
        hint = members[0] if len(members) == 1 else hint
    return {int: "INT", float: "FLOAT", str: "TEXT"}.get(hint)


def _field(parameter: Parameter) -> Any:
    if parameter.default is dataclasses.MISSING:
        return dataclasses.field()
    return dataclasses.field(default=parameter.default)
