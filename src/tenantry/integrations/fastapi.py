"""FastAPI's dependencies: the request's tenant, and its connection, committed before the answer is sent.

    app = FastAPI(lifespan=lifespan("config/tenantry.yaml"), exception_handlers=error_handlers())
    app.add_middleware(TenantMiddleware, resolve=jwt_tenant(key, algorithms=["RS256"], audience="api"))

    @app.post("/students", status_code=201)
    async def add(student: Student, conn: TenantConnection) -> None:
        await conn.execute("INSERT INTO students (name) VALUES ($1)", student.name)

FastAPI runs what follows a dependency's `yield` after the answer has gone out, unless the dependency has the scope
"function": a COMMIT that fails there would come after a 201. These have it.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import TYPE_CHECKING, Annotated, Any

from fastapi import Depends, WebSocket
from starlette.requests import HTTPConnection

from tenantry import ScopedConnection
from tenantry.integrations import starlette
from tenantry.integrations.request_state import TenantId
from tenantry.integrations.starlette import (
    TenantMiddleware,
    error_handlers,
    header_tenant,
    health,
    jwt_tenant,
    lifespan,
    stream,
    subdomain_tenant,
    sync_token,
    tenant_connection,
)

__all__ = [
    "CurrentTenant",
    "ReadOnlyTenantConnection",
    "TenantConnection",
    "TenantMiddleware",
    "TenantSession",
    "connection",
    "error_handlers",
    "header_tenant",
    "health",
    "jwt_tenant",
    "lifespan",
    "scope",
    "stream",
    "subdomain_tenant",
    "sync_token",
    "tenant_connection",
]


def _current_tenant(request: HTTPConnection) -> TenantId:
    return starlette.current_tenant(request)


def scope(name: str) -> Any:
    """A dependency that refuses devices whose sync token does not have this scope, with 403.

    `@app.post("/orders", dependencies=[scope("orders:write")])`
    """

    def check(request: HTTPConnection) -> None:
        starlette.require_scope(request, name)

    return Depends(check)


def connection(**options: Any) -> Any:
    """A dependency with options of `Router.tenant`.

    `Annotated[ScopedConnection, connection(isolation="serializable")]`
    """

    async def scoped(request: HTTPConnection) -> AsyncIterator[ScopedConnection]:
        if isinstance(request, WebSocket):
            raise TypeError(
                "a websocket would hold one transaction as long as it is open; "
                "use `async with tenant_connection(websocket) as conn` for each message"
            )
        async with tenant_connection(request, **options) as conn:
            yield conn

    return Depends(scoped, scope="function")


def _session() -> Any:
    from sqlalchemy.ext.asyncio import AsyncSession

    from tenantry.integrations.sqlalchemy import scoped_session

    async def session(request: HTTPConnection) -> AsyncIterator[AsyncSession]:
        if isinstance(request, WebSocket):
            raise TypeError("a websocket takes a session for each message: use scoped_session")
        tenant = starlette.current_tenant(request)
        claims = starlette.current_claims(request)
        async with scoped_session(starlette.current_router(request), tenant, claims=claims) as opened:
            yield opened
            await opened.commit()

    return Annotated[AsyncSession, Depends(session, scope="function")]


if TYPE_CHECKING:
    from sqlalchemy.ext.asyncio import AsyncSession

    #: A SQLAlchemy session of the request's tenant; what is open in it commits before the answer.
    TenantSession = Annotated[AsyncSession, Depends(_session)]
else:

    def __getattr__(name: str) -> Any:
        if name != "TenantSession":  # needs SQLAlchemy, which the rest does not
            raise AttributeError(name)
        value = globals()["TenantSession"] = _session()
        return value


#: The request's tenant, as the middleware resolved it.
CurrentTenant = Annotated[TenantId, Depends(_current_tenant)]
#: A connection in a scope of the request's tenant; commits before the answer, rolls back when the endpoint raises.
TenantConnection = Annotated[ScopedConnection, connection()]
#: The same in a READ ONLY transaction.
ReadOnlyTenantConnection = Annotated[ScopedConnection, connection(readonly=True)]
