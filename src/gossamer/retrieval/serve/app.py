"""The routes: requests in, JSON out, every failure as a code and a sentence."""

from __future__ import annotations

import asyncio
import contextlib
import hmac
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

from fastapi import FastAPI, Request, Response
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect
from starlette.types import Receive, Scope, Send

from gossamer import __version__
from gossamer.core import GossamerError, StoreError
from gossamer.retrieval.serve import asked, page
from gossamer.retrieval.serve.deadline import Deadline
from gossamer.retrieval.serve.metrics import Metrics
from gossamer.retrieval.serve.service import BusyError, Service, UnknownIdError
from gossamer.retrieval.serve.text import dumps, loads

_REFRESH_SECONDS = 0.5
Answer = Callable[[Any], Awaitable[Any]]


class _RefusedError(Exception):
    def __init__(self, status: int, code: str, message: str) -> None:
        super().__init__(message)
        self.status, self.code = status, code


class Routes:
    """Handlers of one app."""

    def __init__(self, service: Service, key: str | None) -> None:
        self.service, self.metrics = service, Metrics()
        self._key = None if key is None else key.encode()
        self.stopping = False

    async def search(self, request: Request) -> Response:
        """The best documents for a query, or for each of several."""
        async def answer(body: Any) -> Any:
            wanted = asked.search(body, self.service.limits)
            return await self.service.run(lambda: self.service.search(wanted))
        return await self._answered(request, answer)

    async def explain(self, request: Request) -> Response:
        """What each term brings to the score of a document."""
        return await self._answered(request, self._threaded(self.service.explain))

    async def add(self, request: Request) -> Response:
        """Add documents; they are durable and found once this is answered."""
        return await self._answered(request, self._threaded(self.service.add, write=True))

    async def update(self, request: Request) -> Response:
        """Put documents in the place of those with their ids."""
        return await self._answered(request, self._threaded(self.service.update, write=True))

    async def delete(self, request: Request) -> Response:
        """Delete documents by their ids."""
        return await self._answered(request, self._threaded(self.service.delete, write=True))

    async def stats(self, request: Request) -> Response:
        """Figures of the index."""
        return await self._answered(request, self._figures, body=False)

    async def health(self, request: Request) -> Response:
        """Whether requests are taken; needs no key."""
        status = 503 if self.stopping else 200
        return _json({"status": "stopping" if self.stopping else "ok", "version": __version__},
                     status)

    async def measured(self, request: Request) -> Response:
        """Metrics for Prometheus."""
        async def answer(body: Any) -> Any:
            stats = await self._figures(None)
            return self.metrics.text({
                f"index_{name}": float(stats[name])
                for name in ("documents", "deleted", "segments", "bytes")})
        return await self._answered(request, answer, body=False)

    async def page(self, request: Request) -> Response:
        """The search page; holds nothing of the index, and needs no key."""
        return Response(page.HTML, media_type="text/html", headers=page.HEADERS)

    async def _figures(self, body: Any) -> Any:
        return await self.service.run(self.service.stats)

    def _threaded(self, work: Callable[[Any], Any], *, write: bool = False) -> Answer:
        async def answer(body: Any) -> Any:
            if write and not self.service.writable:
                raise _RefusedError(403, "read_only", "The index is served for reading only.")
            return await self.service.run(lambda: work(body), write=write)
        return answer

    async def _answered(self, request: Request, answer: Answer, *, body: bool = True) -> Response:
        start = time.perf_counter()
        route = request.url.path
        self.metrics.active += 1
        try:
            self._check_key(request)
            given = loads(await self._body(request)) if body else None
            found = await answer(given)
            response = (Response(found, media_type="text/plain; version=0.0.4")
                        if isinstance(found, str) else _json(found))
        except (GossamerError, _RefusedError, BusyError, UnknownIdError, TimeoutError) as error:
            response = _refused(error)
        finally:
            self.metrics.active -= 1
        self.metrics.record(route, response.status_code, time.perf_counter() - start)
        return response

    def _check_key(self, request: Request) -> None:
        if self._key is None:
            return
        given = request.headers.get("authorization", "")
        scheme, _, word = given.partition(" ")
        if scheme.lower() != "bearer" or not hmac.compare_digest(
                word.strip().encode("latin-1", "replace"), self._key):
            raise _RefusedError(401, "unauthorized", "The API key is missing or wrong: send it as "
                                                "'Authorization: Bearer KEY'.")

    async def _body(self, request: Request) -> bytes:
        most = self.service.limits.body
        said = request.headers.get("content-length", "0")
        too_long = _RefusedError(413, "too_large", f"The body is larger than {most} bytes.")
        if said.isdigit() and int(said) > most:
            raise too_long
        parts, size = [], 0
        try:
            with Deadline(self.service.limits.read_seconds):
                async for part in request.stream():
                    size += len(part)
                    if size > most:
                        raise too_long
                    parts.append(part)
        except (TimeoutError, ClientDisconnect):
            raise _RefusedError(408, "too_slow", "The body did not arrive in "
                           f"{self.service.limits.read_seconds:g} seconds.") from None
        return b"".join(parts)


def make(service: Service, key: str | None) -> FastAPI:
    """The app over a service, which it closes when it stops."""
    routes = Routes(service, key)

    @contextlib.asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        follower = asyncio.create_task(_follow(service)) if not service.writable else None
        yield
        routes.stopping = True
        if follower is not None:
            follower.cancel()
        await asyncio.get_running_loop().run_in_executor(None, service.close)

    app = FastAPI(title="gossamer index", version=__version__, lifespan=lifespan,
                  docs_url=None, redoc_url=None)
    for path, handler in (("/search", routes.search), ("/explain", routes.explain),
                          ("/add", routes.add), ("/update", routes.update),
                          ("/delete", routes.delete)):
        app.add_api_route(path, handler, methods=["POST"], response_model=None)
    for path, handler in (("/", routes.page), ("/stats", routes.stats),
                          ("/health", routes.health), ("/metrics", routes.measured)):
        app.add_api_route(path, handler, methods=["GET"], response_model=None)
    app.state.routes = routes
    app.add_exception_handler(HTTPException, _no_route)
    app.add_exception_handler(500, _defect)
    return app


class Front:
    """The app, but for searches, which are answered before they reach its layers.

    Bodies are checked by hand, and what FastAPI does for a request takes longer than the search.
    """

    def __init__(self, app: FastAPI) -> None:
        self._app, self._routes = app, app.state.routes

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        if scope["type"] == "http" and scope["path"] == "/search" and scope["method"] == "POST":
            response = await self._routes.search(Request(scope, receive))
            await response(scope, receive, send)
        else:
            await self._app(scope, receive, send)


async def _follow(service: Service) -> None:
    """Let a reader see what a writer in another process adds."""
    while True:
        await asyncio.sleep(_REFRESH_SECONDS)
        with contextlib.suppress(StoreError, BusyError, TimeoutError):  # tried again soon
            await service.run(service.refresh, write=True)


def _refused(error: Exception) -> Response:
    if isinstance(error, _RefusedError):
        headers = {"www-authenticate": "Bearer"} if error.status == 401 else {}
        # What is left of a body that was not read must not be taken for the next request.
        headers |= {"connection": "close"} if error.status in (408, 413) else {}
        return _failure(error.status, error.code, str(error), headers)
    if isinstance(error, BusyError):
        return _failure(503, "busy", "The server is busy: try again in a second.",
                        {"retry-after": "1"})
    if isinstance(error, TimeoutError):
        return _failure(503, "too_long", "The answer took too long: ask for less.")
    if isinstance(error, UnknownIdError):
        return _failure(404, "not_found", str(error))
    if isinstance(error, StoreError):
        return _failure(500, "storage", str(error))
    return _failure(400, "bad_request", str(error))


async def _no_route(request: Request, error: Exception) -> Response:
    status = error.status_code if isinstance(error, HTTPException) else 404
    if status == 405:
        return _failure(405, "method", f"{request.url.path} does not take {request.method}.")
    return _failure(status, "not_found", f"There is no {request.url.path} here.")


async def _defect(request: Request, error: Exception) -> Response:
    return _failure(500, "defect", "The server failed at this request; its log says where.")


def _failure(status: int, code: str, message: str, headers: dict[str, str] | None = None,
             ) -> Response:
    return _json({"error": {"code": code, "message": message}}, status, headers)


def _json(value: Any, status: int = 200, headers: dict[str, str] | None = None) -> Response:
    return Response(dumps(value), status, headers, "application/json")
