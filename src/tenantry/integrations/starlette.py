"""Starlette, and any ASGI framework on it: who asks, the router for the app's life, and honest answers.

    app = Starlette(routes=…, lifespan=lifespan("config/tenantry.yaml"), exception_handlers=error_handlers())
    app.add_middleware(TenantMiddleware, resolve=jwt_tenant(key, algorithms=["RS256"], audience="api"))

    async def students(request):
        async with tenant_connection(request) as conn:
            rows = await conn.fetch("SELECT name FROM students")
        return JSONResponse([row["name"] for row in rows])          # committed before the answer

A scope is a transaction, so it ends before the answer is sent. What runs later (a background task, a websocket's
next message, a stream) opens a scope of its own.
"""

from __future__ import annotations

import asyncio
import contextlib
import math
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path
from typing import Any, Final

import asyncpg
from starlette.requests import HTTPConnection, Request
from starlette.responses import JSONResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from tenantry import Config, Router
from tenantry.errors import ConfigError, RouterClosed, TenantryError, Unauthenticated
from tenantry.integrations.request_state import (
    ROUTER,
    TENANT,
    TenantId,
    current_claims,
    current_router,
    give_claims,
)
from tenantry.integrations.resolvers import (
    Resolver,
    bearer,
    header_tenant,
    jwt_tenant,
    subdomain_tenant,
)
from tenantry.integrations.sync_tokens import current_token, require_scope, sync_token
from tenantry.kits import QuotaExceeded
from tenantry.log_context import logged_as

__all__ = [
    "Resolver",
    "TenantMiddleware",
    "bearer",
    "current_claims",
    "current_router",
    "current_tenant",
    "current_token",
    "error_handlers",
    "give_claims",
    "header_tenant",
    "health",
    "jwt_tenant",
    "lifespan",
    "require_scope",
    "stream",
    "subdomain_tenant",
    "sync_token",
    "tenant_connection",
]

#: A websocket that is refused before it is accepted: "policy violation".
_REFUSED: Final = 1008


def lifespan(config: Config | str | Path, **options: Any) -> Callable[[Any], AbstractAsyncContextManager[Any]]:
    """The app's lifespan: opens the router when the app starts, closes it when it stops.

    Args:
        config, options: as of `Router.open`.
    """

    @asynccontextmanager
    async def run(_app: Any) -> AsyncIterator[dict[str, Any]]:
        async with Router.open(config, **options) as router:
            yield {ROUTER: router}

    return run


class TenantMiddleware:
    """Resolves each request's tenant, and cancels what a client no longer waits for.

    A request that can't be resolved is answered by the resolver's error (401, 403, 404) and never reaches the app.
    A websocket is refused before it is accepted.
    """

    # No mutable state.

    def __init__(
        self,
        app: ASGIApp,
        *,
        resolve: Resolver,
        router: Router | None = None,
        public: tuple[str, ...] = (),
        cancel_on_disconnect: bool = True,
        expose: bool = False,
    ) -> None:
        """Args:
        resolve: who a request is from; see `tenantry.integrations.resolvers`.
        router: None: the one that `lifespan` opened.
        public: paths that need no tenant, such as "/readyz"; they and what is below them.
        cancel_on_disconnect: a client that goes away cancels its request: its scope is rolled back.
        expose: errors say what operators read. For development.
        """
        self._app = app
        self._resolve = resolve
        self._router = router
        self._public = tuple(path.rstrip("/") for path in public)
        self._cancel = cancel_on_disconnect
        self._expose = expose

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] not in {"http", "websocket"}:
            await self._app(scope, receive, send)
            return
        state = scope.setdefault("state", {})
        if self._router is not None:
            state[ROUTER] = self._router
        path = scope["path"]
        if not any(path == one or path.startswith(one + "/") for one in self._public):
            try:
                state[TENANT] = await self._resolve(HTTPConnection(scope))
            except TenantryError as error:
                await _refuse(error, scope, receive, send, expose=self._expose)
                return
        with logged_as(state.get(TENANT, "-")):
            if scope["type"] == "http" and self._cancel:
                await _while_client_waits(self._app, scope, receive, send)
            else:
                await self._app(scope, receive, send)


async def _refuse(error: TenantryError, scope: Scope, receive: Receive, send: Send, *, expose: bool) -> None:
    if scope["type"] == "websocket":
        await send({"type": "websocket.close", "code": _REFUSED, "reason": error.public})
        return
    await answer(error, expose=expose)(scope, receive, send)


async def _while_client_waits(app: ASGIApp, scope: Scope, receive: Receive, send: Send) -> None:
    """Run the app; cancel it when the client goes away before the answer is complete.

    Only the server knows that a client has gone, and tells whoever calls `receive`, where the request's body comes
    from. So the watch begins when the body is complete; whoever calls `receive` later gets what the watch hears.
    """
    me = asyncio.current_task()
    assert me is not None
    watch: asyncio.Task[Message] | None = None
    gone = answered = False

    async def until_gone() -> Message:
        nonlocal gone
        message = await receive()
        if message["type"] == "http.disconnect" and not answered:
            gone = True
            me.cancel()
        return message

    async def receive_watched() -> Message:
        nonlocal watch
        if watch is not None:
            return await asyncio.shield(watch)
        message = await receive()
        if message["type"] == "http.request" and not message.get("more_body", False):
            watch = asyncio.create_task(until_gone(), name="tenantry client watch")
        return message

    async def send_watched(message: Message) -> None:
        nonlocal answered
        if message["type"] == "http.response.body" and not message.get("more_body", False):
            answered = True  # what runs now is a background task: nobody waits for it, so nobody's leaving ends it
        await send(message)

    first: Message | None = None
    if not any(name in {b"content-length", b"transfer-encoding"} for name, _ in scope["headers"]):
        first = await receive_watched()  # without a body there is nothing to wait for, and the app may never ask

    async def receive_first() -> Message:
        nonlocal first
        if first is not None:
            message, first = first, None
            return message
        return await receive_watched()

    try:
        await app(scope, receive_first, send_watched)
    except asyncio.CancelledError:
        if not gone or me.uncancel() > 0:
            raise
    else:
        if gone:  # the app swallowed the cancellation, and is through
            me.uncancel()
    finally:
        if watch is not None and not watch.done():
            watch.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await watch


def current_tenant(request: HTTPConnection) -> TenantId:
    """The tenant that the middleware resolved.

    Raises:
        Unauthenticated: the middleware resolved none: the path is one of its public ones, or it isn't there.
    """
    tenant: TenantId | None = request.scope.get("state", {}).get(TENANT)
    if tenant is None:
        raise Unauthenticated(
            "missing", "no tenant was resolved: is TenantMiddleware added, and is the path public?"
        )
    return tenant


def tenant_connection(request: HTTPConnection, **options: Any) -> AbstractAsyncContextManager[Any]:
    """A scope of the request's tenant: `async with tenant_connection(request) as conn`.

    It commits at the end of the block. Usable as well from a background task and for each message of a websocket.
    Options as of `Router.tenant`; `claims` are the request's, unless you say otherwise.
    """
    options.setdefault("claims", current_claims(request))
    return current_router(request).tenant(current_tenant(request), **options)


# -- answers ---------------------------------------------------------------------------------------


def answer(error: Exception, *, expose: bool = False) -> JSONResponse:
    """The answer to a request that failed by this error: `{"detail": …, "code": …}` with the status that fits.

    Args:
        expose: `detail` is the error's own text, which is for operators and names tenants and databases.
    """
    if isinstance(error, TenantryError):
        status, public, code, after = error.status, error.public, error.code, error.retry_after
    else:
        status, public, code, after = _POSTGRES[next(kind for kind in type(error).__mro__ if kind in _POSTGRES)]
    headers = {}
    if after is not None or status == 429:
        headers["Retry-After"] = str(max(1, math.ceil(after or 1.0)))
    if status == 401:
        headers["WWW-Authenticate"] = "Bearer"
    return JSONResponse({"detail": str(error) if expose else public, "code": code}, status, headers)


#: PostgreSQL's errors that are nobody's mistake: status, public text, code, seconds after which to try again.
_POSTGRES: Final[dict[type, tuple[int, str, str, float | None]]] = {
    QuotaExceeded: (402, "The plan's limit is reached.", "quota_exceeded", None),
    asyncpg.SerializationError: (409, "Somebody changed the same data. Try again.", "conflict", 1.0),
    asyncpg.DeadlockDetectedError: (409, "Somebody changed the same data. Try again.", "conflict", 1.0),
    asyncpg.QueryCanceledError: (503, "The request took too long. Try again shortly.", "timeout", 1.0),
    asyncpg.PostgresConnectionError: (
        503,
        "The service is not available now. Try again shortly.",
        "unavailable",
        1.0,
    ),
}


def error_handlers(*, expose: bool = False) -> Mapping[Any, Callable[[Request, Exception], Response]]:
    """For `Starlette(exception_handlers=…)` and FastAPI: every error of ours becomes an answer with a public text.

    A plan's limit (`tenantry.kits.QuotaExceeded`) is a 402, a serialization failure or deadlock a 409.

    Args:
        expose: answers carry the operators' text. For development.
    """

    def handle(_request: Request, error: Exception) -> Response:
        return answer(error, expose=expose)

    return {kind: handle for kind in (TenantryError, *_POSTGRES)}


# -- streams and health ----------------------------------------------------------------------------

#: Makes the chunks of a stream from a connection.
Produce = Callable[[Any], AsyncIterator[bytes | str]]


def stream(
    request: HTTPConnection,
    produce: Produce,
    *,
    media_type: str = "application/octet-stream",
    headers: Mapping[str, str] | None = None,
    seconds: float = 60.0,
    readonly: bool = True,
    **options: Any,
) -> Response:
    """An answer that is produced from a scope of its own: `return stream(request, produce)`.

    `produce(conn)` is an async generator of chunks. The scope is open while the answer goes out, and holds a
    connection as long as the client is slow: hence the limit. An error before the first chunk is an ordinary error
    answer; after it, or past the limit, the answer is cut off, so that the client sees that it is not whole.

    Args:
        seconds: the limit.
        readonly, options: as of `Router.tenant`.
    """
    if not (0 < seconds < math.inf):
        raise ValueError(f"seconds is a positive number, not {seconds}")
    scope = tenant_connection(request, readonly=readonly, **options)
    return _Stream(scope, produce, seconds, media_type, headers)


class _Stream(Response):
    def __init__(
        self,
        opening: AbstractAsyncContextManager[Any],
        produce: Produce,
        seconds: float,
        media_type: str,
        headers: Mapping[str, str] | None,
    ) -> None:
        super().__init__(headers=headers, media_type=media_type)
        del self.headers["content-length"]
        self._opening = opening
        self._produce = produce
        self._seconds = seconds

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        started = False
        async with asyncio.timeout(self._seconds), self._opening as connection:
            await connection.opened()  # a refusal is an error answer, whatever the first chunk is made of
            chunks = self._produce(connection)
            try:
                async for chunk in chunks:
                    if not started:
                        await self._start(send)
                        started = True
                    data = chunk.encode() if isinstance(chunk, str) else chunk
                    await send({"type": "http.response.body", "body": data, "more_body": True})
            finally:
                close = getattr(chunks, "aclose", None)
                if close is not None:
                    await close()
        if not started:
            await self._start(send)
        await send({"type": "http.response.body", "body": b"", "more_body": False})

    async def _start(self, send: Send) -> None:
        await send({"type": "http.response.start", "status": self.status_code, "headers": self.raw_headers})


def health(router: Router | None = None) -> Callable[[Request], Any]:
    """An endpoint for `/readyz`: 200 while the router takes requests, else 503. Asks no database and names none.

    One database that is down is no reason to take a process out that serves the tenants of others.
    """

    async def ready(request: Request) -> JSONResponse:
        try:
            open_router = router or current_router(request)
            is_open = open_router.is_open
        except (ConfigError, RouterClosed):
            is_open = False
        return JSONResponse({"ready": is_open}, 200 if is_open else 503)

    return ready
