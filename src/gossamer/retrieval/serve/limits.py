"""Limits: what one request may ask for, and how long it may take."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

import annotated_types as at

from gossamer.core import validate


@dataclass(frozen=True)
class Limits:
    """Bounds of a server; a request beyond one is refused in a sentence."""

    body: Annotated[int, at.Ge(1), "bytes of a request's body"] = 16 << 20
    k: Annotated[int, at.Ge(1), "hits of a query"] = 1000
    terms: Annotated[int, at.Ge(1), "terms of a vector"] = 4096
    text: Annotated[int, at.Ge(1), "characters of a text"] = 100_000
    queries: Annotated[int, at.Ge(1), "queries of a request"] = 256
    documents: Annotated[int, at.Ge(1), "documents or ids of a request"] = 10_000
    concurrent: Annotated[int, at.Ge(1), "requests worked on or waiting; further get 503"] = 128
    connections: Annotated[int, at.Ge(1), "open connections; further ones get 503"] = 1024
    threads: Annotated[int, at.Ge(1), "threads that search"] = 2
    read_seconds: Annotated[float, at.Gt(0), "a request must have arrived by then"] = 10.0
    work_seconds: Annotated[float, at.Gt(0), "an answer must be found by then"] = 30.0
    stop_seconds: Annotated[int, at.Ge(1), "running requests may end within, at a stop"] = 10

    def __post_init__(self) -> None:
        validate(self)
