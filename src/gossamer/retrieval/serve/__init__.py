"""serve: an index over HTTP, with a search page."""

from __future__ import annotations

import contextlib
import importlib.util
import sys
from typing import TYPE_CHECKING

from gossamer.core import ConfigError, NeedsError
from gossamer.retrieval.encoders import Encoder, open_encoder
from gossamer.retrieval.index import SparseIndex
from gossamer.retrieval.serve.limits import Limits

if TYPE_CHECKING:
    from fastapi import FastAPI

_SWITCH_SECONDS = 0.0005

__all__ = ["Limits", "create_app", "serve"]


def create_app(
    index: SparseIndex, encoder: Encoder | None = None, key: str | None = None,
    limits: Limits | None = None,
) -> FastAPI:
    """An ASGI app over an index, which it closes when it stops.

    Routes: POST /search, /explain, /add, /update, /delete; GET /stats, /health, /metrics, and the
    search page at /.

    Args:
        index: open; for reading only it answers no changes, and follows those that another
            process makes.
        encoder: reads text; None takes the one that lies beside the index.
        key: what clients send as ``Authorization: Bearer KEY``; None asks for none.
        limits: bounds of a request.

    Raises:
        NeedsError: fastapi is not installed.
        ConfigError: the key is empty.
    """
    _need("fastapi")
    if key is not None and not (key.strip() and key.isascii()):
        raise ConfigError("The API key must not be empty, and of ASCII letters and digits.")
    if encoder is None and index.folder is not None:
        encoder = open_encoder(index.folder)
    from gossamer.retrieval.serve.app import make  # fastapi
    from gossamer.retrieval.serve.service import Service
    return make(Service(index, encoder, limits or Limits()), key)


def serve(
    app: FastAPI, host: str = "127.0.0.1", port: int = 8080, limits: Limits | None = None,
) -> None:
    """Serve an app until Ctrl-C or SIGTERM; requests that run are answered before it ends.

    Raises:
        NeedsError: uvicorn is not installed.
        ConfigError: the port is out of range.
    """
    _need("uvicorn")
    if not 0 <= port < 1 << 16:
        raise ConfigError(f"Port {port} is out of range: 0 to 65535.")
    from gossamer.retrieval.serve.run import make_server  # uvicorn
    # Threads that search hold Python's lock for a fraction of a millisecond at a time; the loop
    # must not wait for the usual five.
    before = sys.getswitchinterval()
    sys.setswitchinterval(_SWITCH_SECONDS)
    try:
        with contextlib.suppress(KeyboardInterrupt):  # raised once more after a stop in order
            make_server(app, host, port, limits or Limits()).run()
    finally:
        sys.setswitchinterval(before)


def _need(package: str) -> None:
    if importlib.util.find_spec(package) is None:
        raise NeedsError(f'Serving needs {package}: pip install "gossamer[retrieval]".')
