"""Is the connection broken, was it refused, or is it the statement? The one answer, in asyncpg's classes.

Each name is a tuple for `except`. asyncpg and the network raise one set of classes, PostgreSQL another: a session
that is cut off shows as either, by chance.
"""

from __future__ import annotations

from typing import Final

import asyncpg

from tenantry.errors import DatabaseUnavailable, TenantryError

#: What the driver and the network raise of a connection that is gone or half dead, beside PostgreSQL's own errors.
#: InternalClientError: the server has ended the session, and the end of the connection has not arrived yet.
BROKEN: Final = (OSError, TimeoutError, asyncpg.InterfaceError, asyncpg.InternalClientError)

#: BROKEN, or the server's own word that the session ends. A cancelled statement is not among them.
LOST: Final = (
    *BROKEN,
    asyncpg.PostgresConnectionError,
    asyncpg.CannotConnectNowError,
    asyncpg.AdminShutdownError,
    asyncpg.CrashShutdownError,
)

#: The database does not exist, or does not let this role in: no other attempt will change it.
NOT_ADMITTED: Final = (asyncpg.InvalidCatalogNameError, asyncpg.InvalidAuthorizationSpecificationError)

#: What PostgreSQL itself answers to a connection attempt that it refuses.
REFUSED: Final = (
    *NOT_ADMITTED,
    asyncpg.TooManyConnectionsError,
    asyncpg.ConnectionFailureError,
    asyncpg.InsufficientPrivilegeError,
)

#: What a failed connection attempt raises.
NOT_CONNECTED: Final = (*LOST, *REFUSED)

#: Errors that say nothing of the work itself: the session was interrupted, or the server is short of something.
#: The work may be tried again. A statement that ran into its time limit is among them.
TRANSIENT: Final = (
    *BROKEN,
    asyncpg.PostgresConnectionError,
    asyncpg.OperatorInterventionError,
    asyncpg.InsufficientResourcesError,
    asyncpg.exceptions.IdleInTransactionSessionTimeoutError,
)

#: The database can't be worked with now, for whatever reason of its own.
UNREACHABLE: Final = (*TRANSIENT, *NOT_ADMITTED)

#: Whatever a statement may fail with, the connection's errors included.
DATABASE_ERRORS: Final = (asyncpg.PostgresError, *BROKEN)

#: DATABASE_ERRORS, in our words too.
ANY_FAILURE: Final = (TenantryError, *DATABASE_ERRORS)


def said_by_server(error: BaseException | None) -> bool:
    """The server has sent it. asyncpg raises PostgreSQL's classes for what it finds itself, too, and for lost
    connections: these have no severity."""
    return isinstance(error, asyncpg.PostgresError) and error.severity is not None


def unavailable(database: str, error: BaseException) -> DatabaseUnavailable:
    """What a user is told of `error`, which a connection attempt or a connection to `database` raised."""
    return DatabaseUnavailable(database, type(error).__name__)
