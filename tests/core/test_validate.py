"""validate: the first field out of its domain, in one sentence."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Annotated, Any, Literal

import annotated_types as at
import pytest

from gossamer.core import ConfigError, GossamerError, validate
from gossamer.core.errors import unknown


@dataclass(frozen=True)
class Config:
    density: Annotated[float, at.Interval(gt=0, le=1), "share kept"] = 0.5
    order: Literal["rows", "columns"] = "rows"
    bits: Literal[2, 4, 8] | None = None
    count: Annotated[int, at.Ge(1), at.Lt(10)] = 3
    damp: Annotated[float, at.Gt(0)] | None = None
    limit: Annotated[int | None, at.Gt(0)] = None
    name: str = "a"
    flag: bool = False
    either: int | str = 1
    free: tuple[int, ...] = ()

    def __post_init__(self) -> None:
        validate(self)


@pytest.mark.parametrize("fields", [
    {}, {"density": 1}, {"bits": 4}, {"damp": 0.1}, {"limit": 3}, {"either": "x"},
    {"free": (1, 2)}, {"count": 9, "flag": True},
])
def test_values_in_their_domain_pass(fields: dict[str, Any]) -> None:
    Config(**fields)


@pytest.mark.parametrize(("fields", "message"), [
    ({"density": 0.0}, "Config.density must be greater than 0, not 0.0"),
    ({"density": 1.5}, "Config.density must be at most 1, not 1.5"),
    ({"density": math.nan}, "Config.density must be greater than 0, not nan"),
    ({"density": "0.5"}, "Config.density must be of type float, not '0.5'"),
    ({"density": True}, "must be of type float"),
    ({"order": "row"}, "Unknown Config.order 'row': did you mean 'rows'"),
    ({"bits": 3}, "Unknown Config.bits '3'"),
    ({"count": 0}, "Config.count must be at least 1, not 0"),
    ({"count": 10}, "Config.count must be less than 10, not 10"),
    ({"count": 2.5}, "Config.count must be of type int"),
    ({"count": True}, "Config.count must be of type int"),
    ({"damp": -1.0}, "Config.damp must be greater than 0"),
    ({"damp": "x"}, "Config.damp must be of type float"),
    ({"limit": 0}, "Config.limit must be greater than 0"),
    ({"name": 3}, "Config.name must be of type str"),
    ({"flag": 1}, "Config.flag must be of type bool"),
    ({"count": None}, "Config.count must be of type int"),
])
def test_values_out_of_their_domain_are_named(fields: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message) as caught:
        Config(**fields)
    assert isinstance(caught.value, GossamerError)
    assert isinstance(caught.value, ValueError)


@pytest.mark.parametrize(("name", "near"), [
    ("sparsgpt", "sparsegpt"), ("SPARSEGPT", "sparsegpt"), ("wandaa", "wanda"), ("Wanda", "wanda"),
])
def test_the_nearest_name_is_suggested(name: str, near: str) -> None:
    sentence = unknown("system", name, ["wanda", "sparsegpt", "magnitude"])
    assert sentence == f"Unknown system {name!r}: did you mean {near!r}?"


def test_without_a_near_name_all_are_listed() -> None:
    assert unknown("system", "zzz", ["b", "a"]) == "Unknown system 'zzz': choose one of a, b."
