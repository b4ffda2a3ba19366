"""What a command's end means: exit codes, and what users read instead of a traceback."""

from __future__ import annotations

import functools
from typing import Final

from tenantry.errors import (
    ConfigError,
    DatabaseUnavailable,
    InvalidTenantId,
    OperationRefused,
    RouterClosed,
    TenantBusy,
    TenantMoving,
    TenantryError,
    UnknownDatabase,
    UnsafeRole,
)

DONE: Final = 0
#: A check found something, or the answer is "no".
FINDINGS: Final = 1
#: The command line or the configuration can't be used.
USAGE: Final = 2
#: A database does not answer; trying again may help.
UNAVAILABLE: Final = 3
#: A check before the work refused it; nothing was touched.
REFUSED: Final = 4
#: Ended by Ctrl-C (128 + SIGINT), as shells have it.
INTERRUPTED: Final = 130
#: A bug in tenantry (EX_SOFTWARE of sysexits.h): never an answer to what was asked.
BUG: Final = 70


_FILES: Final = (FileNotFoundError, PermissionError, IsADirectoryError, NotADirectoryError)


@functools.cache
def _codes() -> tuple[tuple[type[BaseException], int], ...]:
    """Exit codes by class, the narrower classes first. Imports what raises them: what went well did without."""
    import asyncpg

    from tenantry.embedded import EmbeddedError
    from tenantry.move.errors import LeaseLost, MoveInterrupted, MoveRefused, Unreachable
    from tenantry.usage.exchange import BadHistory

    return (
        (ConfigError, USAGE),
        (InvalidTenantId, USAGE),
        (UnsafeRole, REFUSED),
        (MoveRefused, REFUSED),
        (OperationRefused, REFUSED),
        (DatabaseUnavailable, UNAVAILABLE),
        (TenantBusy, UNAVAILABLE),
        (TenantMoving, UNAVAILABLE),
        (RouterClosed, UNAVAILABLE),
        (EmbeddedError, UNAVAILABLE),
        (Unreachable, UNAVAILABLE),
        (LeaseLost, UNAVAILABLE),
        (UnknownDatabase, USAGE),
        (MoveInterrupted, INTERRUPTED),
        (TenantryError, FINDINGS),
        (BadHistory, USAGE),
        (asyncpg.PostgresConnectionError, UNAVAILABLE),
        (asyncpg.OperatorInterventionError, UNAVAILABLE),
        (asyncpg.InsufficientResourcesError, UNAVAILABLE),
        (asyncpg.InvalidAuthorizationSpecificationError, UNAVAILABLE),
        (asyncpg.InvalidCatalogNameError, UNAVAILABLE),
        (asyncpg.PostgresError, FINDINGS),
        (OSError, UNAVAILABLE),  # refused, cut off, no such host, a certificate that is none
        (TimeoutError, UNAVAILABLE),
    )


def code_of(error: BaseException) -> int:
    """The exit code that an error ends a command with."""
    if isinstance(error, _FILES):  # a file that was named, or the socket of a server that is down
        return USAGE if error.filename is not None else UNAVAILABLE
    if type(error) is LookupError:  # said in words by us; a KeyError or IndexError is a bug
        return FINDINGS
    return next((code for kind, code in _codes() if isinstance(error, kind)), BUG)


def words_for(error: BaseException) -> str:
    """What the user reads: the state and the next step. Secrets are taken out by whoever prints it."""
    if code_of(error) == BUG:
        return (
            f"unexpected error: {type(error).__name__}: {error}\n"
            "This is a bug in tenantry. Please report it to its maintainers with the command line and the output "
            "of the same command under TENANTRY_TRACEBACK=1; passwords are taken out of it."
        )
    import asyncpg

    from tenantry.usage.exchange import BadHistory

    if isinstance(error, TenantryError | BadHistory) or type(error) is LookupError:
        return str(error)
    if isinstance(error, _FILES) and error.filename is not None:
        return f"{error.filename}: {error.strerror}"
    if isinstance(error, asyncpg.PostgresError):
        hint = getattr(error, "hint", None)
        return f"PostgreSQL says: {error}" + (f" ({hint})" if hint else "")
    if isinstance(error, TimeoutError):
        return str(error) or "a database did not answer in time; see `tenantry check`"
    return f"no connection ({type(error).__name__}); see `tenantry check`"
