"""run: serve until a signal says stop."""

from __future__ import annotations

import asyncio
import time
from typing import Any

import uvicorn

from gossamer.retrieval.serve.app import Front
from gossamer.retrieval.serve.limits import Limits

_SWEEP_SECONDS = 1.0


class Guard:
    """Closes connections that take too long to send a request, or to take an answer.

    uvicorn bounds the time between requests, but not the time that a request's head takes.

    Args:
        limits: a head must be there after ``read_seconds``; a whole request must be answered, and
            its answer taken, after that and ``work_seconds`` more.
    """

    def __init__(self, limits: Limits) -> None:
        self.limits = limits
        self._since: dict[Any, tuple[Any, float]] = {}

    def sweep(self, connections: set[Any], now: float) -> int:
        """Close what is late; how many that were."""
        late = 0
        self._since = {c: seen for c, seen in self._since.items() if c in connections}
        for connection in list(connections):
            cycle = getattr(connection, "cycle", None)
            waiting = cycle is None or cycle.response_complete
            what = (cycle, waiting)
            known, since = self._since.get(connection, (None, now))
            if known != what:
                self._since[connection] = (what, now)
                continue
            allowed = self.limits.read_seconds
            if not waiting:
                allowed += self.limits.read_seconds + self.limits.work_seconds
            if now - since > allowed and connection.transport is not None:
                connection.transport.abort()
                late += 1
        return late


class Server(uvicorn.Server):
    """uvicorn with a guard against slow clients."""

    def __init__(self, config: uvicorn.Config, limits: Limits) -> None:
        super().__init__(config)
        self._guard = Guard(limits)

    async def main_loop(self) -> None:
        """Serve, and look after connections every second."""
        watch = asyncio.create_task(self._watch())
        try:
            await super().main_loop()
        finally:
            watch.cancel()

    async def _watch(self) -> None:
        while True:
            await asyncio.sleep(min(_SWEEP_SECONDS, self._guard.limits.read_seconds / 2))
            self._guard.sweep(self.server_state.connections, time.monotonic())


def make_server(app: Any, host: str, port: int, limits: Limits) -> Server:
    """A server that is not running yet."""
    return Server(uvicorn.Config(
        Front(app), host, port, log_level="warning", access_log=False,
        limit_concurrency=limits.connections, timeout_keep_alive=max(1, int(limits.read_seconds)),
        timeout_graceful_shutdown=limits.stop_seconds, server_header=False, date_header=False,
        proxy_headers=False), limits)
