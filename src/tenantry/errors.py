"""Everything that tenantry raises of its own.

One class per fact. Each error carries its facts as attributes, and its message says the state and the
next step: it is for operators and developers. What a stranger may read is `public`, and `status` is the HTTP
status that fits. PostgreSQL's own errors pass through as asyncpg raises them. No error ever carries a DSN, a
password or a query's arguments.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import ClassVar


class TenantryError(Exception):
    """Base of every error that tenantry raises.

    Attributes:
        status: the HTTP status of an answer to a request that failed by it.
        public: one sentence for whoever sent the request; names no tenant, no database and no setting.
        code: the error's stable name in an answer.
        retry_after: seconds after which the same request may succeed; None: it won't by itself.
    """

    status: ClassVar[int] = 500
    public: ClassVar[str] = "The service could not answer this request."
    code: ClassVar[str] = "internal"
    retry_after: float | None = None


class ConfigError(TenantryError):
    """The configuration can't be used; says which source, which key, and the fix.

    Attributes:
        source: the file or mapping that was read, or None.
        key: dotted path of the key at fault, or None when the whole source is at fault.
    """

    def __init__(self, message: str, *, source: str | None = None, key: str | None = None) -> None:
        self.source = source
        self.key = key
        where = ": ".join(part for part in (source, key) if part)
        super().__init__(f"{where}: {message}" if where else message)


class InvalidTenantId(TenantryError, ValueError):
    """The value is not a tenant id of the configured type. Raised before any I/O.

    Attributes:
        expected: "uuid", "bigint" or "text".
    """

    status = 404
    public = "There is no such account."
    code = "unknown_tenant"

    def __init__(self, value: object, expected: str, why: str) -> None:
        self.expected = expected
        self.type = type(value).__name__
        if why in READ:  # by somebody who types
            super().__init__(f"not a {expected} tenant id ({why}): {_EXPECTED_TEXT[expected]}")
            return
        super().__init__(
            f"not a {expected} tenant id ({why}); got {type(value).__name__}. Pass {_EXPECTED_PYTHON[expected]}"
        )


#: Reasons why a text is no id, as users type it or a product's rows hold it.
READ = ("can't be read as one", "spelt otherwise than PostgreSQL prints it")

_EXPECTED_TEXT = {
    "uuid": "write 32 hexadecimal digits, in small letters with hyphens, as 8d0c5a0e-6a1f-4a6e-9d3f-2f0f0d1c2b3a",
    "bigint": "write digits only, without leading zeros, plus or blanks",
    "text": "write 1 to 255 bytes of UTF-8, without NUL",
}
_EXPECTED_PYTHON = {
    "uuid": "a uuid.UUID",
    "bigint": "an int within PostgreSQL's bigint",
    "text": "a non-empty str of at most 255 bytes in UTF-8, without NUL",
}


class InvalidClaims(TenantryError, ValueError):
    """Claims that can't be given to a scope. Raised before any I/O; the message holds none of their values."""


class UnknownTenant(TenantryError, LookupError):
    """The directory has no such tenant.

    Attributes:
        tenant: the id that was asked for.
    """

    status = 404
    public = "There is no such account."
    code = "unknown_tenant"

    def __init__(self, tenant: object) -> None:
        self.tenant = tenant
        super().__init__(
            f"tenant {tenant} is not in the directory; add it with `tenantry tenants add {tenant}` "
            "or Router.add_tenant, or set tenancy.default_database"
        )


class TenantRemoved(UnknownTenant):
    """The tenant was removed. Its rows may still be there, so no sign-up brings it back: an operator does.

    Attributes:
        tenant: the id that was asked for.
    """

    def __init__(self, tenant: object) -> None:
        self.tenant = tenant
        LookupError.__init__(
            self,
            f"tenant {tenant} was removed; `tenantry tenants add {tenant} --restore` brings it back",
        )


class UnknownToken(TenantryError, LookupError):
    """There is no sync token of that id.

    Attributes:
        token: the id.
    """

    def __init__(self, token: str) -> None:
        self.token = token
        super().__init__(f"there is no sync token {token}; `tenantry tokens list --past` has those of 90 days")


class UnmatchedTenant(UnknownTenant):
    """What was said for a tenant is no tenant's id, name or beginning of an id, or the beginning of several ids.

    Attributes:
        tenant: what was said.
        matches: ids that begin so; there may be more.
    """

    def __init__(self, said: str, matches: Sequence[str] = ()) -> None:
        self.tenant = said
        self.matches = tuple(matches)
        if matches:
            why = f"{said!r} is the beginning of several tenants' ids: {', '.join(matches)}; write more of it"
        else:
            why = f"no tenant has {said!r} for its id, for its name, or for the beginning of its id"
        LookupError.__init__(self, why)


class TenantSuspended(TenantryError):
    """The tenant is suspended: nothing is served for it.

    Attributes:
        tenant: the id that was asked for.
    """

    status = 403
    public = "This account is suspended."
    code = "tenant_suspended"

    def __init__(self, tenant: object) -> None:
        self.tenant = tenant
        super().__init__(f"tenant {tenant} is suspended; `tenantry tenants resume {tenant}` lets it in again")


class TenantBusy(TenantryError):
    """No connection came free for this tenant: its queue is full, or the deadline passed in the queue.

    Attributes:
        tenant: the id that was asked for.
        database: where it lives.
        retry_after: seconds after which a place is likely; an estimate from the queue's length.
        waiting: how many checkouts of this tenant are waiting.
    """

    retry_after: float
    status = 429
    public = "Too many requests of this account are waiting. Try again shortly."
    code = "tenant_busy"

    def __init__(self, tenant: object, database: str, *, retry_after: float, waiting: int, why: str) -> None:
        self.tenant = tenant
        self.database = database
        self.retry_after = retry_after
        self.waiting = waiting
        super().__init__(
            f"tenant {tenant} is busy on {database}: {why} ({waiting} waiting); "
            f"try again in {retry_after:.2f} s, or raise router.queue, router.timeout or the pool's max"
        )


class TenantMoving(TenantryError):
    """The tenant is being moved to another database, and the move outlasted the caller's deadline.

    Attributes:
        tenant: the id that was asked for.
        waited: seconds that this caller was parked.
    """

    status = 503
    public = "The service is busy for a moment. Try again shortly."
    code = "tenant_moving"
    retry_after = 1.0

    def __init__(self, tenant: object, waited: float) -> None:
        self.tenant = tenant
        self.waited = waited
        super().__init__(
            f"tenant {tenant} is being moved and did not settle within {waited:.3f} s; "
            "try again, with a longer timeout than the move's pause (800 ms by default)"
        )


class DatabaseUnavailable(TenantryError):
    """A database does not accept connections now.

    Attributes:
        database: its name ("control" for the control database).
        retry_after: seconds until the router itself tries again, or None when it is not backing off.
    """

    status = 503
    public = "The service is not available now. Try again shortly."
    code = "unavailable"

    def __init__(self, database: str, why: str, *, retry_after: float | None = None) -> None:
        self.database = database
        self.retry_after = retry_after
        when = "" if retry_after is None else f"; next attempt in {retry_after:.1f} s"
        super().__init__(f"database {database} is unavailable ({why}){when}; see `tenantry check`")


class DsnUnreadable(DatabaseUnavailable):
    """What a database's DSN is to be read from leads nowhere on this machine, or to something that is no DSN.

    Attributes:
        database: its name.
        reference: "env:NAME", "file:PATH", "server:NAME" or "config", as the directory has it.
    """

    def __init__(self, database: str, reference: str, why: str) -> None:
        self.reference = reference
        super().__init__(database, f"its DSN can't be read: {reference}: {why}")


class UnknownDatabase(TenantryError, LookupError):
    """Neither the configuration nor the directory has such a database.

    Attributes:
        database: its name.
        known: those that there are.
    """

    def __init__(
        self, database: str, known: Sequence[str], hint: str = "`tenantry databases list` shows them"
    ) -> None:
        self.database = database
        self.known = tuple(sorted(known))
        super().__init__(f"no database {database}; there are: {', '.join(self.known) or 'none'}. {hint}")


class NoRoom(TenantryError):
    """No shared database takes the tenant: `tenancy.placement` found none that has room and that it may live in.

    Attributes:
        capacities: by database that it may live in, how many tenants it may have; None: any number, but the
            directory doesn't have it.
        unfit: by database that it may not live in, why.
    """

    status = 503
    code = "no_room"

    def __init__(
        self, capacities: Mapping[str, int | None], unfit: Mapping[str, str] | None = None, residence: str = ""
    ) -> None:
        self.capacities = dict(capacities)
        self.unfit = dict(unfit or {})
        tenant = f"tenant {residence}".rstrip()
        if self.unfit and not self.capacities:
            listed = "; ".join(f"{name}: {why}" for name, why in self.unfit.items())
            super().__init__(
                f"no database that takes sign-ups is for a {tenant}. {listed}. Add one, or set region and tier of "
                "one under databases: (`tenantry databases list` shows them)"
            )
            return
        full = [name if most is None else f"{name} ({most})" for name, most in self.capacities.items()]
        others = f"; not for it: {', '.join(self.unfit)}" if self.unfit else ""
        super().__init__(
            f"no database has room for another {tenant}: {', '.join(full) or 'none accepts one'}{others}. "
            "Add one, raise databases.NAME.capacity, or move tenants away; `tenantry databases list` shows how "
            "many each has"
        )


class DatabaseExists(TenantryError):
    """The directory has a database of that name already.

    Attributes:
        database: its name.
    """

    def __init__(self, database: str) -> None:
        self.database = database
        super().__init__(f"database {database} is in the directory already; `tenantry databases set` changes it")


class OperationRefused(TenantryError):
    """A check before the work refuses it; nothing was touched."""


class WrongHome(OperationRefused):
    """A tenant may not live in that database: its region or its tier is another one. Nothing was touched.

    Attributes:
        tenant: its id.
        database: the database's name.
        reasons: why, one for each of the two.
    """

    def __init__(self, tenant: object, residence: str, database: str, reasons: Sequence[str]) -> None:
        self.tenant = tenant
        self.database = database
        self.reasons = tuple(reasons)
        super().__init__(
            f"tenant {tenant} is {residence}, and may not live in {database}: {', and '.join(reasons)}. Choose "
            "another database (`tenantry databases list` shows region and tier), or another region or tier for "
            "the tenant"
        )


class ArchiveUnusable(OperationRefused):
    """An archive of a tenant's data can't be written or read.

    Attributes:
        path: of the file.
        reason: what is wrong with it.
    """

    def __init__(self, path: str, reason: str) -> None:
        self.path = path
        self.reason = reason
        super().__init__(f"{path}: {reason}")


class OperationsClosed(TenantryError):
    """The operations are closed, or were not entered: use `async with Operations.open(config) as ops`."""

    def __init__(self) -> None:
        super().__init__("not open: use it inside of `async with Operations.open(config) as ops`")


class ScopeLost(TenantryError):
    """The scope's transaction did not live to the scope's end, so its work is not committed by it.

    Attributes:
        tenant: whose scope it was.
        reason: "ended" (the application sent COMMIT or ROLLBACK), "failed" (a statement failed, the error
            was swallowed, and PostgreSQL rolled the transaction back), "busy" (a statement was still
            running at the scope's end) or "closed" (the connection is gone).
    """

    def __init__(self, tenant: object, reason: str, message: str) -> None:
        self.tenant = tenant
        self.reason = reason
        super().__init__(f"scope of tenant {tenant} lost: {message}")


class OperatorScopeLost(TenantryError):
    """The transaction of an operator's scope did not live to the scope's end, so the scope commits nothing.

    Attributes:
        database: where it was.
        reason: "ended" (COMMIT or ROLLBACK was sent inside it; what that has committed is committed, and what came
            after ran outside of a transaction) or "failed" (a statement failed, and the error was swallowed).
    """

    def __init__(self, database: str, reason: str) -> None:
        self.database = database
        self.reason = reason
        why = {
            "ended": "COMMIT or ROLLBACK was sent inside it; leave the scope to end it",
            "failed": "a statement in it had failed, so PostgreSQL rolls it back; let the error leave the scope, "
            "or wrap the statement in conn.transaction()",
        }[reason]
        super().__init__(f"operator's scope on {database} lost: {why}")


class CommitUnknown(TenantryError):
    """The connection went away before PostgreSQL had answered the COMMIT: it is committed, or it is not.

    A one-shot's COMMIT is sent right behind its statement, so this may be told before that is answered.

    The cause (`__cause__`) is what became of the connection.

    Attributes:
        tenant: whose scope it was.
    """

    def __init__(self, tenant: object) -> None:
        self.tenant = tenant
        super().__init__(
            f"the connection of a scope of tenant {tenant} went away before its COMMIT was answered: it is "
            "committed or not; look for what it has written before you repeat it"
        )


class UnsafeRole(TenantryError):
    """The role in a database's DSN could bypass row-level security, so the router refuses to serve.

    Attributes:
        database: the database's name.
        role: the role that the DSN logs in as.
        problems: one sentence each.
        fixes: the SQL that fixes each problem, in the same order.
    """

    def __init__(self, database: str, role: str, problems: Sequence[str], fixes: Sequence[str]) -> None:
        self.database = database
        self.role = role
        self.problems = tuple(problems)
        self.fixes = tuple(fixes)
        listed = "; ".join(f"{problem} (fix: {fix})" for problem, fix in zip(problems, fixes, strict=True))
        super().__init__(f"refusing to serve {database} as role {role}: {listed}")


class WrongContext(TenantryError):
    """A router, or a connection of its, is used outside the process, thread or event loop that opened it.

    Raised before anything is sent: the rightful user's connections notice nothing.

    Attributes:
        differs: "process" (after a fork), "thread" or "event loop".
        opened_in, used_in: which ones.
    """

    def __init__(self, differs: str, opened_in: str, used_in: str) -> None:
        self.differs = differs
        self.opened_in = opened_in
        self.used_in = used_in
        super().__init__(
            f"the router was opened in {differs} {opened_in} and is used in {used_in}; nothing was sent. "
            f"Open a router of its own in each {differs}" + (", after the fork" if differs == "process" else "")
        )


class NestedScope(TenantryError):
    """A task that holds a scope asks for another one on the same database, and would wait for itself.

    Every connection that could become free is held by a task that waits in the same way.

    Attributes:
        tenant: the id that was asked for.
        database: where it lives.
    """

    def __init__(self, tenant: object, database: str, why: str) -> None:
        self.tenant = tenant
        self.database = database
        super().__init__(
            f"this task holds a scope on {database} and asks for another one there, for {tenant}: {why}, so "
            "it would wait for itself. Use the open scope's connection, leave that scope first, or raise the "
            "pool's max"
        )


class RouterClosed(TenantryError):
    """The router is closed or closing; open a new one."""

    status = 503
    public = "The service is about to restart. Try again shortly."
    code = "unavailable"
    retry_after = 1.0

    def __init__(self, what: str = "the router is closed; open a new one with Router.open") -> None:
        super().__init__(what)


class RouterPinned(TenantryError):
    """The router serves one tenant only, and was asked for something else. Raised before anything is sent.

    Attributes:
        pinned: whom it serves.
    """

    status = 403
    public = "This is not allowed here."
    code = "forbidden"

    def __init__(self, pinned: object, asked: str) -> None:
        self.pinned = pinned
        super().__init__(
            f"this router is pinned to tenant {pinned} and was asked for {asked}; "
            "use a router that was opened without pinned="
        )


class Unauthenticated(TenantryError):
    """The request does not prove who sends it: no token, or one that is expired, forged or revoked.

    Attributes:
        reason: a word for the log: "missing", "malformed", "expired", "invalid", "revoked".
    """

    status = 401
    public = "Sign in again: the request carries no valid token."
    code = "unauthenticated"

    def __init__(self, reason: str, message: str) -> None:
        self.reason = reason
        super().__init__(f"request refused ({reason}): {message}")


class TooManyFailures(TenantryError):
    """Too many requests of one source carried tokens that are none: it has to wait.

    Attributes:
        retry_after: seconds until its next one is looked at.
    """

    retry_after: float
    status = 429
    public = "Too many failed attempts. Try again later."
    code = "too_many_failures"

    def __init__(self, retry_after: float) -> None:
        self.retry_after = retry_after
        super().__init__(
            f"too many tokens from one source were none; the next one is looked at in {retry_after:.1f} s"
        )


class Forbidden(TenantryError):
    """The request proves who sends it, and that may not do this.

    Attributes:
        reason: a word for the log, such as "untrusted-proxy" or "scope".
    """

    status = 403
    public = "This is not allowed."
    code = "forbidden"

    def __init__(self, reason: str, message: str) -> None:
        self.reason = reason
        super().__init__(f"request refused ({reason}): {message}")
