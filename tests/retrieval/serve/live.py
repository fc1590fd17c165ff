"""A real server in a thread, and a client that sends what it is told."""

from __future__ import annotations

import http.client
import json
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from gossamer.retrieval import SparseIndex
from gossamer.retrieval.serve import Limits, create_app

TEXTS = ["heat transfer over a flat plate", "flow past a flat plate in supersonic flow",
         "shear flow of a boundary layer", "buckling of a thin shell",
         "supersonic aircraft with thin wings"]


@dataclass(frozen=True)
class Live:
    """Where a server listens."""

    port: int
    server: Any

    def ask(
        self, method: str, path: str, body: Any = None, headers: dict[str, str] | None = None,
    ) -> tuple[int, Any]:
        """Status and answer; a body that is bytes is sent as it is."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=20)
        try:
            data = body if isinstance(body, bytes) or body is None else json.dumps(body).encode()
            connection.request(method, path, data, headers or {})
            answer = connection.getresponse()
            text = answer.read()
            kind = answer.headers.get_content_type()
            return answer.status, json.loads(text) if kind == "application/json" else text.decode()
        finally:
            connection.close()

    def post(self, path: str, body: Any, **headers: str) -> tuple[int, Any]:
        """Status and answer of a POST."""
        return self.ask("POST", path, body, headers)


@contextmanager
def serving(
    index: SparseIndex, encoder: Any = None, key: str | None = None, limits: Limits | None = None,
    extend: Callable[[Any], None] | None = None,
) -> Iterator[Live]:
    """A server on a free port, stopped at the end."""
    from gossamer.retrieval.serve.run import make_server
    app = create_app(index, encoder, key, limits)
    if extend is not None:
        extend(app)
    server = make_server(app, "127.0.0.1", 0, limits or Limits())
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    try:
        while not server.started:
            assert thread.is_alive()
            time.sleep(0.01)
        yield Live(server.servers[0].sockets[0].getsockname()[1], server)
    finally:
        server.should_exit = True
        thread.join(20)
    assert not thread.is_alive()
